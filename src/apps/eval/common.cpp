#include "common.h"

#include <algorithm>
#include <cstdlib>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"

namespace pgolf {
namespace {

/// In the order of --help.
std::vector<ModelOption> unsaid_options(Unsaid* unsaid) {
  std::vector<ModelOption> options = rotary_options(&unsaid->stored.model, &unsaid->rope);
  for (auto& option : shape_options(&unsaid->stored.model)) options.push_back(std::move(option));
  options.push_back(train_seq_len_option(&unsaid->stored.train_seq_len));
  std::erase_if(options, [](const ModelOption& option) { return !option.may_be_unknown(); });
  return options;
}

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
  Unsaid any;
  for (const auto& option : unsaid_options(&any)) {
    if (option.stored == Stored::as_another_option) continue;
    const std::string& name = option.name;
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
  const RopeRequest trained = rope_request(used);
  std::string warning;
  used.rope_dims = parse_rope_dims(common.eval_rope_dims, used.head_dim(), &warning);
  if (!warning.empty()) log::warn(warning);
  file.overrides.push_back("EVAL_ROPE_DIMS=" + common.eval_rope_dims);
  log::warn(format("%s: %s rotate by --eval-rope-dims; it was trained with %s", file.path.c_str(),
                   describe_rope_dims(used.widest_rope()).c_str(),
                   (trained.layers == "same" ? trained.dims : trained.layers).c_str()));
}

/// The same for windows longer than the training's.
void override_scaling(ModelFile& file, const Common& common) {
  const double factor = common.eval_rope_scaling_factor;
  const auto scaling = common.eval_rope_scaling;
  const bool scales = scaling && *scaling != RopeScaling::none;
  if (scales != (factor != 1)) {
    throw Error(ExitCode::usage,
                scales ? "EVAL_ROPE_SCALING: by how much is not said" : "EVAL_ROPE_SCALING_FACTOR without an EVAL_ROPE_SCALING",
                "give both: --eval-rope-scaling yarn --eval-rope-scaling-factor 2");
  }
  if (!scaling) return;
  RopeSettings& rope = file.stored.model.rope;
  rope.scaling = *scaling;
  rope.scaling_factor = factor;
  rope.original_seq_len = rope.scaling == RopeScaling::yarn ? file.stored.train_seq_len : 0;
  for (int layer = 0; layer < file.stored.model.num_layers; ++layer) check_rope_scaling(file.stored.model.rope_of(layer));
  file.overrides.push_back(format("EVAL_ROPE_SCALING=%s", enum_text(rope.scaling)));
  if (factor != 1) file.overrides.push_back(format("EVAL_ROPE_SCALING_FACTOR=%g", factor));
  log::warn(format("%s: positions are scaled by --eval-rope-scaling, factor %g", file.path.c_str(), factor));
}

/// stored, or a RopeScaling.
Binding stored_or_scaling(std::optional<RopeScaling>* field) {
  const auto scalings = enum_texts(RopeScaling{});
  std::vector<std::string> names{"stored"};
  for (const auto& [name, scaling] : scalings) names.emplace_back(name);
  return bind::choice_of(names, 0,
                         [=](size_t index) { *field = index == 0 ? std::nullopt : std::optional(scalings[index - 1].second); });
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
  table.add("DEVICE", bind::choice(&common.runtime.device), "", "Where to compute.");
  table.add("DTYPE", bind::choice(&common.runtime.dtype), "", "Of activations.");
  table.add("OPS", bind::choice(&common.runtime.ops), "", "Fused operations or their definitions.");
  table.add("NUM_THREADS", bind::integer(&common.runtime.num_threads, 0, 4096), "threads",
            "0 = OMP_NUM_THREADS, else the physical cores this process may use.");
  table.add("EVAL_ROPE_DIMS", bind::text(&common.eval_rope_dims), "lanes",
            "Rotate other lanes than in training, in all layers, to see what that does: full, none or an even number.");
  table.add("EVAL_ROPE_SCALING", stored_or_scaling(&common.eval_rope_scaling), "",
            "Scale positions otherwise than in training, for windows longer than its own (which yarn takes as the original).");
  table.add("EVAL_ROPE_SCALING_FACTOR", bind::number(&common.eval_rope_scaling_factor, {.low = 1}), "", "By how much.");
  add_unsaid(table, common.unsaid);
}

void add_unsaid(OptionTable& table, Unsaid& unsaid) {
  table.group("For files that do not say it (the Python program's)");
  for (auto& option : unsaid_options(&unsaid)) table.add(option.name, option.value, option.unit, option.help);
}

ModelFile read_model(const std::string& path, const Common& common, std::vector<ResolvedOption> options) {
  ModelFile file = read_model_file(path);
  apply_flags(file, common, std::move(options));
  override_lanes(file, common);
  override_scaling(file, common);
  return file;
}

}  // namespace pgolf
