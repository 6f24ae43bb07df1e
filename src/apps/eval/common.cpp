#include "common.h"

#include <algorithm>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"

namespace pgolf {
namespace {

/// The options above that a model's metadata has, too.
constexpr const char* kModelOptions[] = {"ROPE_DIMS",        "ROPE_LAYERS",  "ROPE_BASE",           "ROPE_STYLE",
                                         "ROPE_SELECT",      "ROPE_SCALING", "ROPE_SCALING_FACTOR", "ROPE_ORIGINAL_SEQ_LEN",
                                         "ROPE_TABLE_DTYPE", "QK_NORM",      "PARALLEL_BLOCK",      "LOGIT_SOFTCAP",
                                         "TRAIN_SEQ_LEN"};

/// Fills in from flags what the file does not say; refuses flags that contradict what it says.
void apply_flags(ModelFile& file, const Common& common, std::vector<ResolvedOption> options) {
  const auto given = [&](const char* name) { return find_option(options, name).source == Source::flag; };
  const auto said = model_metadata(file.stored.model, file.stored.train_seq_len);
  ModelConfig model = file.stored.model;
  const ModelConfig& flags = common.unsaid.stored.model;
  model.rope = flags.rope;
  model.qk_norm = flags.qk_norm;
  model.parallel_block = flags.parallel_block;
  model.logit_softcap = flags.logit_softcap;
  std::vector<std::string> warnings;
  resolve_rope(common.unsaid.rope, &model, &options, &warnings);
  for (const auto& warning : warnings) log::warn(warning);
  if (file.assumed.empty()) {
    for (const char* name : kModelOptions) {
      const std::string text = find_option(options, name).text;
      const bool meant = given(name) || (name == std::string("ROPE_DIMS") && given("ROPE_FRACTION"));
      if (meant && text != said.at(name)) {
        throw Error(
            ExitCode::usage,
            format("%s=%s, but %s was trained with %s=%s", name, text.c_str(), file.path.c_str(), name, said.at(name).c_str()),
            "leave the flag out; --eval-rope-dims evaluates with other lanes than those of the training");
      }
    }
  } else {
    file.stored = {model, common.unsaid.stored.train_seq_len};
    const auto now = model_metadata(model, file.stored.train_seq_len);
    const auto listed = [&](const std::string& name) {
      return std::any_of(file.assumed.begin(), file.assumed.end(),
                         [&](const std::string& assumption) { return assumption.rfind(name + "=", 0) == 0; });
    };
    for (const char* name : kModelOptions) {
      if (given(name) && !listed(name)) file.assumed.push_back(std::string(name) + "=");
    }
    for (auto& assumption : file.assumed) {
      const std::string name = assumption.substr(0, assumption.find('='));
      assumption = name + "=" + now.at(name);
    }
  }
  if (common.eval_rope_dims == "stored") return;
  ModelConfig& used = file.stored.model;
  std::string warning;
  const std::string trained = used.rope_layers.empty() ? said.at("ROPE_DIMS") : said.at("ROPE_LAYERS");
  used.rope.rope_dims = parse_rope_dims(common.eval_rope_dims, used.rope.head_dim, &warning);
  used.rope_layers.clear();
  if (!warning.empty()) log::warn(warning);
  log::warn(format("%s: %s rotate by --eval-rope-dims; it was trained with %s", file.path.c_str(),
                   describe_rope_dims(used.rope).c_str(), trained.c_str()));
}

}  // namespace

void add_common(OptionTable& table, Common& common) {
  table.accept_positional(&common.positional);
  table.add_action({.name = "help", .field = &common.help, .help = "Print this and stop.", .stops = true});
  table.group("Common");
  table.add("TOKENIZER_PATH", bind::text(&common.tokenizer_path), "", "SentencePiece model, a .model file.");
  table.add("DEVICE",
            bind::choice(&common.runtime.device,
                         {{"auto", DeviceChoice::automatic}, {"cpu", DeviceChoice::cpu}, {"cuda", DeviceChoice::cuda}}),
            "", "Where to compute.");
  table.add(
      "DTYPE",
      bind::choice(&common.runtime.dtype,
                   {{"auto", DtypeChoice::automatic}, {"float32", DtypeChoice::float32}, {"bfloat16", DtypeChoice::bfloat16}}),
      "", "Of activations.");
  table.add("OPS", bind::choice(&common.runtime.ops, {{"fast", OpsPath::fast}, {"reference", OpsPath::reference}}), "",
            "Fused operations or their definitions.");
  table.add("NUM_THREADS", bind::integer(&common.runtime.num_threads, 0, 4096), "threads",
            "0 = physical cores allowed to the process.");
  table.add("EVAL_ROPE_DIMS", bind::text(&common.eval_rope_dims), "lanes",
            "Rotate other lanes than in training, in all layers, to see what that does: full, none or an even number.");
  add_unsaid(table, common.unsaid);
}

void add_unsaid(OptionTable& table, Unsaid& unsaid) {
  auto& model = unsaid.stored.model;
  table.group("For files that do not say it (the Python program's)");
  add_rope_options(table, &model, &unsaid.rope, Resume::may_differ);
  table.add("PARALLEL_BLOCK", bind::boolean(&model.parallel_block), "",
            "Attention and MLP of a block read the same normalised input.");
  table.add("LOGIT_SOFTCAP", bind::number(&model.logit_softcap, {.low = 0, .low_open = true}), "",
            "Logits become cap * tanh(logits / cap).");
  table.add("TRAIN_SEQ_LEN", bind::integer(&unsaid.stored.train_seq_len, 1, 1 << 24), "tokens", "Window length of the training.");
}

ModelFile read_model(const std::string& path, const Common& common, std::vector<ResolvedOption> options) {
  ModelFile file = read_model_file(path);
  apply_flags(file, common, std::move(options));
  return file;
}

}  // namespace pgolf
