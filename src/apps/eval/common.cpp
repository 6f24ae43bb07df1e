#include "common.h"

#include <algorithm>
#include <cstdlib>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/config/shape_options.h"

namespace pgolf {
namespace {

/// The common options that a model's metadata has, too.
constexpr const char* kModelOptions[] = {
    "ROPE_DIMS",           "ROPE_LAYERS",           "ROPE_BASE",        "ROPE_STYLE", "ROPE_SELECT", "ROPE_SCALING",
    "ROPE_SCALING_FACTOR", "ROPE_ORIGINAL_SEQ_LEN", "ROPE_TABLE_DTYPE", "QK_NORM",    "MLP_KIND",    "MLP_LEAKY_SLOPE",
    "PARALLEL_BLOCK",      "LOGIT_SOFTCAP",         "TRAIN_SEQ_LEN"};

/// Fills in from flags what the file does not say; refuses flags that contradict what it says.
void apply_flags(ModelFile& file, const Common& common, std::vector<ResolvedOption> options) {
  ModelMetadata said = model_metadata(file.stored.model, file.stored.train_seq_len);
  ModelConfig flags = file.stored.model;
  flags.rope = common.unsaid.stored.model.rope;
  std::vector<std::string> warnings;
  resolve_rope(common.unsaid.rope, &flags, &options, &warnings);
  for (const auto& warning : warnings) log::warn(warning);

  const bool silent = !file.assumed.empty();
  const auto given = [&](const std::string& name) { return find_option(options, name).source == Source::flag; };
  for (const std::string name : kModelOptions) {
    const std::string text = find_option(options, name).text;
    // Three ways to say the same.
    const bool lanes = name == "ROPE_DIMS" && (given("ROPE_FRACTION") || given("ROPE_LAYERS"));
    if (!given(name) && !lanes) continue;
    if (!silent && text != said.at(name)) {
      throw Error(ExitCode::usage,
                  format("%s=%s, but %s was trained with %s=%s", name.c_str(), text.c_str(), file.path.c_str(), name.c_str(),
                         said.at(name).c_str()),
                  "leave the flag out; --eval-rope-dims evaluates with other lanes than those of the training");
    }
    said[name] = text;
    const auto listed = [&](const std::string& assumption) { return assumption.starts_with(name + "="); };
    if (silent && std::none_of(file.assumed.begin(), file.assumed.end(), listed)) file.assumed.push_back(name + "=");
  }
  if (silent) {
    file.stored = read_model_metadata(said, file.path.string());
    check_shape(file.stored.model, options);
    for (auto& assumption : file.assumed) {
      const std::string name = assumption.substr(0, assumption.find('='));
      assumption = name + "=" + said.at(name);
    }
  }
}

/// Lanes other than those of the training, on purpose.
void override_lanes(ModelFile& file, const Common& common) {
  if (common.eval_rope_dims == "stored") return;
  ModelConfig& used = file.stored.model;
  const ModelMetadata said = model_metadata(used, file.stored.train_seq_len);
  std::string warning;
  const std::string trained = used.rope_layers.empty() ? said.at("ROPE_DIMS") : said.at("ROPE_LAYERS");
  used.rope.rope_dims = parse_rope_dims(common.eval_rope_dims, used.rope.head_dim, &warning);
  used.rope_layers.clear();
  if (!warning.empty()) log::warn(warning);
  file.overrides.push_back("EVAL_ROPE_DIMS=" + common.eval_rope_dims);
  log::warn(format("%s: %s rotate by --eval-rope-dims; it was trained with %s", file.path.c_str(),
                   describe_rope_dims(used.rope).c_str(), trained.c_str()));
}

/// The same for windows longer than the training's.
void override_scaling(ModelFile& file, const Common& common) {
  using Choice = Common::EvalScaling;
  const double factor = common.eval_rope_scaling_factor;
  const bool scales = common.eval_rope_scaling != Choice::stored && common.eval_rope_scaling != Choice::none;
  if (scales != (factor != 1)) {
    throw Error(ExitCode::usage,
                scales ? "EVAL_ROPE_SCALING: by how much is not said" : "EVAL_ROPE_SCALING_FACTOR without an EVAL_ROPE_SCALING",
                "give both: --eval-rope-scaling yarn --eval-rope-scaling-factor 2");
  }
  if (common.eval_rope_scaling == Choice::stored) return;
  RopeSpec& rope = file.stored.model.rope;
  rope.scaling = common.eval_rope_scaling == Choice::linear ? RopeScaling::linear
                 : common.eval_rope_scaling == Choice::ntk  ? RopeScaling::ntk
                 : common.eval_rope_scaling == Choice::yarn ? RopeScaling::yarn
                                                            : RopeScaling::none;
  rope.scaling_factor = factor;
  rope.original_seq_len = rope.scaling == RopeScaling::yarn ? file.stored.train_seq_len : 0;
  for (int layer = 0; layer < file.stored.model.num_layers; ++layer) check_rope_scaling(file.stored.model.rope_of(layer));
  const char* name = rope.scaling == RopeScaling::linear ? "linear"
                     : rope.scaling == RopeScaling::ntk  ? "ntk"
                     : rope.scaling == RopeScaling::yarn ? "yarn"
                                                         : "none";
  file.overrides.push_back(format("EVAL_ROPE_SCALING=%s", name));
  if (factor != 1) file.overrides.push_back(format("EVAL_ROPE_SCALING_FACTOR=%g", factor));
  log::warn(format("%s: positions are scaled by --eval-rope-scaling, factor %g", file.path.c_str(), factor));
}

/// The models' own options are not taken from the environment, which may be set for a training.
std::string environment_variable(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

}  // namespace

std::string ValidationFiles::pattern() const {
  if (!val_files.empty() && data_path.empty()) return val_files;
  const std::string folder = data_path.empty() ? environment_variable("DATA_PATH") : data_path;
  if (val_files.empty() && !folder.empty()) return folder + "/fineweb_val_*.bin";
  throw Error(ExitCode::usage, val_files.empty() ? "no validation tokens given" : "DATA_PATH and VAL_FILES are both given",
              "say one of them: --val-files 'data/datasets/NAME/fineweb_val_*.bin', or --data-path data/datasets/NAME");
}

void add_validation_files(OptionTable& table, ValidationFiles& files) {
  Binding data_path = bind::text(&files.data_path), val_files = bind::text(&files.val_files);
  data_path.default_text = "that of the environment";
  val_files.default_text = "none";
  table.add("DATA_PATH", data_path, "", "Folder whose fineweb_val_*.bin are read.");
  table.add("VAL_FILES", val_files, "", "Or these shards, a quoted shell pattern.");
}

void add_common(OptionTable& table, Common& common) {
  table.accept_positional(&common.positional);
  table.add_action({.name = "help", .field = &common.help, .help = "Print this and stop.", .stops = true});
  table.group("Common");
  common.tokenizer_path = environment_variable("TOKENIZER_PATH");
  const char* const fineweb = "./data/tokenizers/fineweb_1024_bpe.model";
  if (common.tokenizer_path.empty()) common.tokenizer_path = fineweb;
  Binding tokenizer = bind::text(&common.tokenizer_path);
  tokenizer.default_text = format("that of the environment, or %s", fineweb);
  table.add("TOKENIZER_PATH", tokenizer, "", "SentencePiece model, a .model file.");
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
            "0 = OMP_NUM_THREADS, else the physical cores this process may use.");
  table.add("EVAL_ROPE_DIMS", bind::text(&common.eval_rope_dims), "lanes",
            "Rotate other lanes than in training, in all layers, to see what that does: full, none or an even number.");
  using Choice = Common::EvalScaling;
  table.add("EVAL_ROPE_SCALING",
            bind::choice<Choice>(&common.eval_rope_scaling, {{"stored", Choice::stored},
                                                             {"none", Choice::none},
                                                             {"linear", Choice::linear},
                                                             {"ntk", Choice::ntk},
                                                             {"yarn", Choice::yarn}}),
            "",
            "Scale positions otherwise than in training, for windows longer than its own (which yarn takes as the original).");
  table.add("EVAL_ROPE_SCALING_FACTOR", bind::number(&common.eval_rope_scaling_factor, {.low = 1}), "", "By how much.");
  add_unsaid(table, common.unsaid);
}

void add_unsaid(OptionTable& table, Unsaid& unsaid) {
  auto& model = unsaid.stored.model;
  table.group("For files that do not say it (the Python program's)");
  add_rope_options(table, &model, &unsaid.rope, Resume::may_differ);
  add_activation_options(table, &model, Resume::may_differ);
  table.add("TRAIN_SEQ_LEN", bind::integer(&unsaid.stored.train_seq_len, 1, 1 << 24), "tokens", "Window length of the training.");
}

ModelFile read_model(const std::string& path, const Common& common, std::vector<ResolvedOption> options) {
  ModelFile file = read_model_file(path);
  apply_flags(file, common, std::move(options));
  override_lanes(file, common);
  override_scaling(file, common);
  return file;
}

}  // namespace pgolf
