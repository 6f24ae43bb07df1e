#include "common.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/text.h"
#include "pgolf/config/config_file.h"
#include "pgolf/run/run_folder.h"

namespace pgolf {
namespace {

constexpr const char* kFinewebTokenizer = "./data/tokenizers/fineweb_1024_bpe.model";

/// In the order of --help.
std::vector<ModelOption> file_default_options(FileDefaults* defaults) {
  std::vector<ModelOption> options = rotary_options(&defaults->stored.model, &defaults->rope);
  for (auto& option : shape_options(&defaults->stored.model)) options.push_back(std::move(option));
  options.push_back(train_seq_len_option(&defaults->stored.train_seq_len));
  std::erase_if(options, [](const ModelOption& option) { return !option.may_be_unknown(); });
  return options;
}

/// Fills in from flags what the file does not store; refuses flags that contradict a stored value.
void apply_flags(ModelFile& file, const Common& common, std::vector<ResolvedOption> options) {
  ModelMetadata values = model_metadata(file.stored.model, file.stored.train_seq_len);
  ModelConfig flags = file.stored.model;
  flags.rope = common.file_defaults.stored.model.rope;
  std::vector<std::string> warnings;
  resolve_rope(common.file_defaults.rope, &flags, &options, &warnings);
  for (const auto& warning : warnings) log::warn(warning);

  const bool incomplete = !file.assumed.empty();
  const auto given = [&](const std::string& name) { return find_option(options, name).source == Source::flag; };
  FileDefaults unused;
  for (const auto& option : file_default_options(&unused)) {
    if (option.stored == Stored::as_another_option) continue;
    const std::string& name = option.name;
    const std::string text = find_option(options, name).text;
    // ROPE_FRACTION and ROPE_LAYERS set it too.
    const bool implied = name == "ROPE_DIMS" && (given("ROPE_FRACTION") || given("ROPE_LAYERS"));
    if (!given(name) && !implied) continue;
    if (!incomplete && text != values.at(name)) {
      throw Error(ExitCode::usage,
                  format("%s=%s, but %s was trained with %s=%s", name.c_str(), text.c_str(), file.path.c_str(), name.c_str(),
                         values.at(name).c_str()),
                  "remove the flag; --eval-rope-dims evaluates with different rotated dims than in training");
    }
    values[name] = text;
    const auto listed = [&](const std::string& assumption) { return assumption.starts_with(name + "="); };
    if (incomplete && std::none_of(file.assumed.begin(), file.assumed.end(), listed)) file.assumed.push_back(name + "=");
  }
  if (incomplete) {
    file.stored = read_model_metadata(values, file.path.string());
    check_shape(file.stored.model, options);
    for (auto& assumption : file.assumed) {
      const std::string name = assumption.substr(0, assumption.find('='));
      assumption = name + "=" + values.at(name);
    }
  }
}

/// Applies --eval-rope-dims.
void override_rope_dims(ModelFile& file, const Common& common) {
  if (common.eval_rope_dims == "stored") return;
  ModelConfig& used = file.stored.model;
  const RopeRequest trained = rope_request(used);
  std::string warning;
  used.rope_dims = parse_rope_dims(common.eval_rope_dims, used.head_dim(), &warning, "EVAL_ROPE_DIMS");
  if (!warning.empty()) log::warn(warning);
  file.overrides.push_back("EVAL_ROPE_DIMS=" + common.eval_rope_dims);
  log::warn(format("%s: --eval-rope-dims rotates %s; trained with %s", file.path.c_str(),
                   describe_rope_dims(used.widest_rope()).c_str(),
                   (trained.layers == "same" ? trained.dims : trained.layers).c_str()));
}

/// Applies --eval-rope-scaling.
void override_scaling(ModelFile& file, const Common& common) {
  const double factor = common.eval_rope_scaling_factor;
  const auto scaling = common.eval_rope_scaling;
  const bool scales = scaling && *scaling != RopeScaling::none;
  if (scales != (factor != 1)) {
    throw Error(
        ExitCode::usage,
        scales ? "EVAL_ROPE_SCALING needs EVAL_ROPE_SCALING_FACTOR above 1" : "EVAL_ROPE_SCALING_FACTOR needs EVAL_ROPE_SCALING",
        "pass both: --eval-rope-scaling yarn --eval-rope-scaling-factor 2");
  }
  if (!scaling) return;
  RopeSettings& rope = file.stored.model.rope;
  rope.scaling = *scaling;
  rope.scaling_factor = factor;
  rope.original_seq_len = rope.scaling == RopeScaling::yarn ? file.stored.train_seq_len : 0;
  for (int layer = 0; layer < file.stored.model.num_layers; ++layer)
    check_rope_scaling(file.stored.model.rope_of(layer), "EVAL_");
  file.overrides.push_back(format("EVAL_ROPE_SCALING=%s", enum_text(rope.scaling)));
  if (factor != 1) file.overrides.push_back(format("EVAL_ROPE_SCALING_FACTOR=%g", factor));
  log::warn(format("%s: positions are scaled by --eval-rope-scaling, factor %g", file.path.c_str(), factor));
}

/// "stored" or a RopeScaling.
Binding stored_or_scaling(std::optional<RopeScaling>* field) {
  const auto scalings = enum_texts(RopeScaling{});
  std::vector<std::string> names{"stored"};
  for (const auto& [name, scaling] : scalings) names.emplace_back(name);
  return bind::choice_of(names, 0,
                         [=](size_t index) { *field = index == 0 ? std::nullopt : std::optional(scalings[index - 1].second); });
}

/// Model options are not read from the environment, which may be set up for training.
std::string environment_variable(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

/// A path option of the run that a checkpoint belongs to (a run folder, or a file in it or in its checkpoints/); empty if there
/// is no run or it does not say.
std::string path_of_run(const std::string& checkpoint, const char* name) {
  namespace fs = std::filesystem;
  RunFolder run{checkpoint};
  for (int level = 0; level < 2 && !run.is_run(); ++level) run.path = run.path.parent_path();
  if (!run.is_run()) return {};
  for (const auto& entry : read_config_file(run.config().string())) {
    if (entry.key != name) continue;
    std::error_code none;
    if (fs::exists(entry.value, none)) return entry.value;
    throw Error(ExitCode::bad_input,
                format("%s=%s of the run (%s) does not exist here", name, printable(entry.value).c_str(), entry.origin.c_str()),
                "go to the folder in which it was trained, or pass " + flag_of(name));
  }
  return {};
}

}  // namespace

std::string Common::tokenizer() const {
  if (!tokenizer_path.empty()) return tokenizer_path;
  std::string path = environment_variable("TOKENIZER_PATH");
  if (path.empty()) path = path_of_run(positional.at(0), "TOKENIZER_PATH");
  return path.empty() ? kFinewebTokenizer : path;
}

std::string ValidationFiles::pattern(const std::string& checkpoint) const {
  if (!val_files.empty() && data_path.empty()) return val_files;
  std::string folder = data_path.empty() ? environment_variable("DATA_PATH") : data_path;
  if (val_files.empty() && folder.empty()) folder = path_of_run(checkpoint, "DATA_PATH");
  if (val_files.empty() && !folder.empty()) return folder + "/fineweb_val_*.bin";
  throw Error(ExitCode::usage, val_files.empty() ? "no validation tokens given" : "DATA_PATH and VAL_FILES are both given",
              "pass one of them: --data-path data/datasets/NAME or --val-files 'data/datasets/NAME/fineweb_val_*.bin'");
}

void add_validation_files(OptionTable& table, ValidationFiles& files) {
  Binding data_path = bind::text(&files.data_path), val_files = bind::text(&files.val_files);
  data_path.default_text = "from the environment, else the run's";
  val_files.default_text = "none";
  table.add("DATA_PATH", data_path, "", "Folder with the validation shards, fineweb_val_*.bin.");
  table.add("VAL_FILES", val_files, "",
            "Validation shards, instead of DATA_PATH: a path whose file name may be a quoted shell pattern.");
  table.add("BYTE_COUNT", bind::choice(&files.byte_counting), "", kByteCountHelp);
}

void add_override(ByteCounting counting, std::vector<std::string>& overrides) {
  if (counting != ByteCounting::rule) overrides.push_back(std::string("BYTE_COUNT=") + enum_text(counting));
}

void add_tokenizer(OptionTable& table, std::string& path) {
  Binding tokenizer = bind::text(&path);
  tokenizer.default_text = format("from the environment, else the run's, else %s", kFinewebTokenizer);
  table.add("TOKENIZER_PATH", tokenizer, "", "SentencePiece model, a .model file.");
}

void add_common(OptionTable& table, Common& common) {
  table.accept_positional(&common.positional);
  table.add_action({.name = "help", .field = &common.help, .help = "Print this help and exit.", .stops = true});
  table.group("Common");
  add_tokenizer(table, common.tokenizer_path);
  table.add("DEVICE", bind::choice(&common.runtime.device), "", "Device to compute on.");
  table.add("DTYPE", bind::choice(&common.runtime.dtype), "", "Dtype of activations.");
  table.add("OPS", bind::choice(&common.runtime.ops), "", "fast: fused operations; reference: their plain definitions.");
  table.add("NUM_THREADS", bind::integer(&common.runtime.num_threads, 0, 4096), "threads",
            "0 = OMP_NUM_THREADS, else the physical cores this process may use.");
  table.add("EVAL_ROPE_DIMS", bind::text(&common.eval_rope_dims), "dims",
            "Number of dims to rotate in all layers instead of the trained one: full, none or an even number.");
  table.add(
      "EVAL_ROPE_SCALING", stored_or_scaling(&common.eval_rope_scaling), "",
      "Position scaling to use instead of the trained one, for longer windows; yarn's original length is the training length.");
  table.add("EVAL_ROPE_SCALING_FACTOR", bind::number(&common.eval_rope_scaling_factor, {.low = 1}), "",
            "Factor of EVAL_ROPE_SCALING.");
  add_file_defaults(table, common.file_defaults);
}

void add_file_defaults(OptionTable& table, FileDefaults& defaults) {
  table.group("Settings for files that do not store them (from upstream's train_gpt.py)");
  for (auto& option : file_default_options(&defaults)) table.add(option.name, option.value, option.unit, option.help);
}

namespace {

/// Logits would be NaN, and what is said of the model nonsense. `inspect` shows such a file.
void require_finite(const ModelFile& file) {
  for (const auto& [name, tensor] : file.state) {
    const int64_t wrong = tensor.numel() - at::isfinite(tensor).sum().item<int64_t>();
    if (wrong == 0) continue;
    throw Error(ExitCode::non_finite,
                format("%s: %s of %s values of %s are NaN or infinite", file.path.c_str(), with_commas(wrong).c_str(),
                       with_commas(tensor.numel()).c_str(), name.c_str()),
                "its training diverged or the file is damaged: use another model file");
  }
}

}  // namespace

ModelFile read_model(const std::string& path, const Common& common, std::vector<ResolvedOption> options) {
  ModelFile file = read_model_file(path, [&](ModelFile& known) { apply_flags(known, common, options); });
  if (!file.unwrapped.empty()) log::warn(format("%s: read %s", file.path.c_str(), file.unwrapped.c_str()));
  require_finite(file);
  override_rope_dims(file, common);
  override_scaling(file, common);
  return file;
}

void require_tokenizer(const Tokenizer& tokenizer, const ModelFile& file) {
  tokenizer.require_vocab_size(file.stored.model.vocab_size);
  tokenizer.require_fingerprint(file.stored.tokenizer, file.path.string());
}

}  // namespace pgolf
