// eval_gpt export: a stored model in another format.
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "commands.h"
#include "common.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/text.h"
#include "pgolf/model_io/model_writer.h"

namespace pgolf {
namespace {

namespace fs = std::filesystem;

void check_output(const fs::path& output, bool overwrite, const ArtifactFormat& made) {
  if (model_format(output, made).codec == Codec::none && made.codec != Codec::zlib)
    throw Error(ExitCode::usage, format("COMPRESSOR=%s: only .ptz files are compressed", codec_name(made.codec)));
  std::error_code none;  // a path that cannot be inspected fails when it is written
  if (fs::is_directory(output, none)) throw Error(ExitCode::usage, format("OUTPUT=%s is a folder", output.c_str()));
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
    const bool own = option.name == "OUTPUT" || option.name == "COMPRESSOR" || option.name == "STORE_ASSUMED";
    if (option.source == Source::flag && !own) {
      throw Error(ExitCode::usage,
                  format("%s would have no effect: %s stores no configuration, and neither would the output",
                         option.origin.c_str(), file.path.c_str()),
                  "--store-assumed true stores it with the other assumed values");
    }
  }
  return {};
}

}  // namespace

ExitCode run_export(int argc, const char* const* argv) {
  Common common;
  std::string output;
  bool overwrite = false, store_assumed = false;
  ArtifactFormat made;
  OptionTable table(
      "eval_gpt export CHECKPOINT --output FILE [--OPTION VALUE]...",
      "Converts a stored model to the format of the output's suffix: .safetensors, .pt (a state dict for torch.load)\n"
      "or .ptz (the int8 artifact). Between the first two every bit is kept.");
  table.accept_positional(&common.positional);
  table.add_action({.name = "help", .field = &common.help, .help = "Print this help and exit.", .stops = true});
  table.add_action({.name = "overwrite", .field = &overwrite, .help = "Replace the output if it exists."});
  table.group("Export");
  table.add_required("OUTPUT", bind::text(&output), "", "File to write: *.safetensors, *.pt or *.ptz.");
  table.add("COMPRESSOR", bind::choice(&made.codec), "", "Compression of a .ptz.");
  table.add("STORE_ASSUMED", bind::boolean(&store_assumed), "",
            "For a file without a configuration: store the inferred and assumed values and those of the flags below.");
  add_file_defaults(table, common.file_defaults);
  const auto options = table.resolve(argc, argv, {}).options;
  if (common.help) {
    std::fputs(table.help().c_str(), stdout);
    return ExitCode::ok;
  }
  if (common.positional.size() != 1)
    throw Error(ExitCode::usage, "export takes exactly one checkpoint", "see eval_gpt export --help");
  check_output(output, overwrite, made);
  const ModelFile file = read_model(common.positional[0], common, options);
  const ModelMetadata metadata = metadata_to_store(file, store_assumed, options);
  if (file.format.codes != CodeFormat::none && model_format(output).codes != CodeFormat::none)
    log::warn(format("%s is already quantized; quantizing it again may change its weights slightly", file.path.c_str()));
  write_model(output, file.state, file.stored.model, metadata, made);
  const char* stored =
      file.metadata.empty() ? (metadata.empty() ? "no configuration" : "assumed configuration") : "configuration";
  log::info(format("%s: %s bytes, %zu tensors, %s, from %s (%s)%s", output.c_str(),
                   with_commas(static_cast<int64_t>(fs::file_size(output))).c_str(), file.state.size(), stored, file.path.c_str(),
                   format_text(file.format).c_str(),
                   metadata.empty() || file.assumed.empty() ? "" : (" assumed:" + join(file.assumed, " ")).c_str()));
  return ExitCode::ok;
}

}  // namespace pgolf
