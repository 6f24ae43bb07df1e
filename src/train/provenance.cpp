#include "provenance.h"

#include <torch/version.h>

#include <algorithm>

#include "pgolf/base/cpu_level.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/hash.h"
#include "pgolf/base/log.h"
#include "pgolf/base/version.h"
#include "pgolf/data/shard.h"

namespace pgolf {
namespace {

using Facts = std::map<std::string, std::string>;

std::string fingerprint(const Shard& shard) {
  constexpr size_t looked_at = 1 << 16, digits = 16;
  const auto tokens = shard.tokens();
  return sha256_hex(std::as_bytes(tokens.first(std::min(looked_at, tokens.size())))).substr(0, digits);
}

int64_t token_count(const std::vector<std::filesystem::path>& files) {
  int64_t tokens = 0;
  for (const auto& file : files) tokens += static_cast<int64_t>(Shard(file).tokens().size());
  return tokens;
}

/// "cpu_level avx2, not avx512": own values and the others, where they differ.
std::string differences(const Facts& own, const Facts& stored) {
  std::string text;
  for (const auto& [name, value] : stored) {
    const auto found = own.find(name);
    const std::string here = found != own.end() ? found->second : "unknown";
    if (here != value) text += format("%s%s %s, not %s", text.empty() ? "" : ", ", name.c_str(), here.c_str(), value.c_str());
  }
  return text;
}

}  // namespace

Facts data_identity(const DataConfig& data, int64_t shard) {
  const auto files = find_shards(data.train_files()), validation = find_shards(data.val_files());
  const auto index = shard >= 0 && shard < static_cast<int64_t>(files.size()) ? static_cast<size_t>(shard) : 0;
  return {{"shards", std::to_string(files.size())},
          {"tokens", std::to_string(token_count(files))},
          {"first_shard", fingerprint(Shard(files.front()))},
          {"current_shard", fingerprint(Shard(files[index]))},
          {"validation_tokens", std::to_string(token_count(validation))},
          {"first_validation_shard", fingerprint(Shard(validation.front()))}};
}

Facts arithmetic_of(const Runtime& runtime) {
  Facts facts{{"version", program_version()}, {"libtorch", TORCH_VERSION}, {"dtype", dtype_name(runtime.dtype)}};
  if (runtime.device.is_cuda()) {
    facts["device"] = gpu_description(runtime.device);
  } else {
    facts["device"] = "cpu";
    facts["cpu_level"] = cpu_level_name(cpu_level());
    facts["num_threads"] = std::to_string(runtime.num_threads);
  }
  return facts;
}

void check_provenance(const TrainingState& state, const std::string& path, const RunConfig& config, const Runtime& runtime) {
  if (!state.data.empty()) {
    const std::string other = differences(data_identity(config.data, state.loader_file), state.data);
    const std::string message =
        format("%s was trained on other shards than those in %s: %s", path.c_str(), config.data.data_path.c_str(), other.c_str());
    if (!other.empty() && !config.data.allow_other_data)
      throw Error(ExitCode::usage, message, "set DATA_PATH to its shards, or --allow-other-data to go on with these");
    if (!other.empty()) log::warn(message);
  }
  const std::string other = differences(arithmetic_of(runtime), state.arithmetic);
  if (!other.empty())
    log::warn(format("%s was saved with other arithmetic, so results will differ: %s", path.c_str(), other.c_str()));
}

}  // namespace pgolf
