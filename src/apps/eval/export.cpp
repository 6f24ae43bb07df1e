// eval_gpt export: a stored model in another format.
#include <cstdio>
#include <filesystem>

#include "commands.h"
#include "common.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/text.h"
#include "pgolf/model_io/foreign_model.h"
#include "pgolf/model_io/model_writer.h"

namespace pgolf {
namespace {

namespace fs = std::filesystem;

/// --to. ours: a format of train_gpt and its tools, by the output's suffix.
enum class Target { ours, hf, gguf };
constexpr EnumTexts<Target, 3> enum_texts(Target) {
  return {{{"suffix", Target::ours}, {"hf", Target::hf}, {"gguf", Target::gguf}}};
}

struct Request {
  fs::path output;
  Target target = Target::ours;
  WeightDtype dtype = WeightDtype::float32;
  Codec codec = Codec::zlib;
  bool overwrite = false, store_assumed = false;
};

/// What has an effect only with other formats.
void check_options(const Request& request, const std::vector<ResolvedOption>& options) {
  const bool ours = request.target == Target::ours;
  const bool compressed = ours && model_format(request.output, request.codec).codec != Codec::none;
  const auto refuse = [&](const char* name, const char* effect) {
    const ResolvedOption& option = find_option(options, name);
    if (option.source == Source::flag) throw Error(ExitCode::usage, format("%s=%s: %s", name, option.text.c_str(), effect));
  };
  if (!compressed && request.codec != Codec::zlib) refuse("COMPRESSOR", "only .ptz files are compressed");
  if (!ours) refuse("STORE_ASSUMED", "only our own files store a configuration");
  if (ours) {
    refuse("DTYPE", "our own files keep each tensor's dtype; it is for --to hf and --to gguf");
    refuse("TOKENIZER_PATH", "only --to hf and --to gguf store the tokenizer");
  }
}

void check_output(const fs::path& output, bool folder_wanted, bool overwrite) {
  std::error_code none;  // a path that cannot be inspected fails when it is written
  if (fs::exists(output, none) && fs::is_directory(output, none) != folder_wanted) {
    throw Error(ExitCode::usage, format("OUTPUT=%s is %s", output.c_str(), folder_wanted ? "no folder" : "a folder"));
  }
  const fs::path folder = output.has_parent_path() ? output.parent_path() : fs::path(".");
  if (!fs::is_directory(folder, none)) throw Error(ExitCode::usage, format("OUTPUT=%s: no such folder", output.c_str()));
  if (!overwrite && fs::exists(output, none))
    throw Error(ExitCode::usage, format("OUTPUT=%s exists", output.c_str()), "--overwrite replaces it");
}

/// The configuration to store: that of the file. For a file without one, none, or the assumed one if store_assumed.
ModelMetadata metadata_to_store(const ModelFile& file, bool store_assumed, const std::vector<ResolvedOption>& options) {
  if (!file.metadata.empty()) {
    if (store_assumed)
      throw Error(ExitCode::usage, format("%s stores its configuration, so nothing is assumed", file.path.c_str()),
                  "drop --store-assumed");
    return file.metadata;
  }
  if (store_assumed) return metadata_for_file(file.stored);
  for (const auto& option : options) {
    const bool own =
        option.name == "OUTPUT" || option.name == "TO" || option.name == "COMPRESSOR" || option.name == "STORE_ASSUMED";
    if (option.source == Source::flag && !own) {
      throw Error(ExitCode::usage,
                  format("%s would have no effect: %s stores no configuration, and neither would the output",
                         option.origin.c_str(), file.path.c_str()),
                  "--store-assumed true stores it with the other assumed values");
    }
  }
  return {};
}

void export_ours(const ModelFile& file, const Request& request, const std::vector<ResolvedOption>& options) {
  const ModelMetadata metadata = metadata_to_store(file, request.store_assumed, options);
  if (file.format.codes != CodeFormat::none && model_format(request.output).codes != CodeFormat::none)
    log::warn(format("%s is already quantized; quantizing it again may change its weights slightly", file.path.c_str()));
  write_model(request.output, file.state, file.stored.model, metadata, request.codec);
  const char* stored =
      file.metadata.empty() ? (metadata.empty() ? "no configuration" : "assumed configuration") : "configuration";
  log::info(format("%s: %s bytes, %zu tensors, %s, from %s (%s)%s", request.output.c_str(),
                   with_commas(static_cast<int64_t>(fs::file_size(request.output))).c_str(), file.state.size(), stored,
                   file.path.c_str(), format_text(file.format).c_str(),
                   metadata.empty() || file.assumed.empty() ? "" : (" assumed:" + join(file.assumed, " ")).c_str()));
}

void export_foreign(const ModelFile& file, const Request& request, const std::string& tokenizer_path) {
  const bool hf = request.target == Target::hf;
  const ForeignModel model = foreign_model(file, hf ? ForeignFormat::hf : ForeignFormat::gguf);
  const Tokenizer tokenizer(tokenizer_path);
  require_tokenizer(tokenizer, file);
  if (hf) {
    write_hf_folder(request.output, model, tokenizer, request.dtype);
  } else {
    write_gguf(request.output, model, tokenizer, request.dtype, request.output.stem().string());
  }
  const fs::path weights = hf ? request.output / "model.safetensors" : request.output;
  log::info(format("%s: %s bytes, %s, width %lld, %lld heads of %lld, %s, from %s (%s)%s", request.output.c_str(),
                   with_commas(static_cast<int64_t>(fs::file_size(weights))).c_str(), architecture_name(model.architecture),
                   static_cast<long long>(model.model.width), static_cast<long long>(model.model.heads),
                   static_cast<long long>(model.model.head_dim), enum_text(request.dtype), file.path.c_str(),
                   format_text(file.format).c_str(),
                   file.assumed.empty() ? "" : (" assumed:" + join(file.assumed, " ")).c_str()));
}

}  // namespace

ExitCode run_export(int argc, const char* const* argv) {
  Common common;
  Request request;
  std::string output;
  OptionTable table(
      "eval_gpt export MODEL [--to FORMAT] OUTPUT [--OPTION VALUE]...",
      "Converts a stored model to the format of the output's suffix: .safetensors, .pt (a state dict for torch.load)\n"
      "or .ptz (the int8 artifact). Between the first two every bit is kept. With --to hf to a folder that Hugging Face's\n"
      "transformers opens, with --to gguf to a file for llama.cpp, if the architecture can be expressed there.");
  table.accept_positional(&common.positional);
  table.add_action({.name = "help", .field = &common.help, .help = "Print this help and exit.", .stops = true});
  table.add_action({.name = "overwrite", .field = &request.overwrite, .help = "Replace the output if it exists."});
  table.group("Export");
  table.add(
      "OUTPUT", bind::text(&output), "",
      "File to write: *.safetensors, *.pt, *.ptz, or any with --to gguf; with --to hf a folder. May also follow the model.");
  table.add("TO", bind::choice(&request.target), "",
            "suffix: one of our formats, by the output's suffix; hf: a folder for transformers; gguf: a file for llama.cpp.");
  table.add("DTYPE", bind::choice(&request.dtype), "", "Of the weights, for hf and gguf.");
  add_tokenizer(table, common.tokenizer_path);
  table.add("COMPRESSOR", bind::choice(&request.codec), "", "Compression of a .ptz.");
  table.add("STORE_ASSUMED", bind::boolean(&request.store_assumed), "",
            "For a file without a configuration: store the inferred and assumed values and those of the flags below.");
  add_file_defaults(table, common.file_defaults);
  const auto options = table.resolve(argc, argv, {}).options;
  if (common.help) {
    std::fputs(table.help().c_str(), stdout);
    return ExitCode::ok;
  }
  if (common.positional.size() == 2 && output.empty()) {
    output = common.positional[1];
    common.positional.pop_back();
  }
  if (common.positional.size() != 1 || output.empty()) {
    throw Error(ExitCode::usage, "export takes exactly one model and one output", "see eval_gpt export --help");
  }
  request.output = output;
  check_options(request, options);
  check_output(request.output, request.target == Target::hf, request.overwrite);
  const ModelFile file = read_model(common.positional[0], common, options);
  if (request.target == Target::ours) {
    export_ours(file, request, options);
  } else {
    export_foreign(file, request, common.tokenizer());
  }
  return ExitCode::ok;
}

}  // namespace pgolf
