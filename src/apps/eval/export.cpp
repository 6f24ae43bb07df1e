// eval_gpt export: a stored model in another form.
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

void check_output(const fs::path& output, bool overwrite) {
  model_format(output);
  std::error_code none;  // what cannot be looked at fails when it is written
  if (fs::is_directory(output, none)) throw Error(ExitCode::usage, format("OUTPUT=%s is a folder", output.c_str()));
  const fs::path folder = output.has_parent_path() ? output.parent_path() : fs::path(".");
  if (!fs::is_directory(folder, none)) throw Error(ExitCode::usage, format("OUTPUT=%s: there is no such folder", output.c_str()));
  if (!overwrite && fs::exists(output, none))
    throw Error(ExitCode::usage, format("OUTPUT=%s exists", output.c_str()), "--overwrite replaces it");
}

/// What is stored beside the weights: what the file said. For one that said nothing, nothing, unless that is asked for.
ModelMetadata metadata_to_store(const ModelFile& file, bool store_assumed, const std::vector<ResolvedOption>& options) {
  if (!file.metadata.empty()) {
    if (store_assumed)
      throw Error(ExitCode::usage, format("nothing about %s is assumed: it stores its configuration", file.path.c_str()),
                  "leave --store-assumed out");
    return file.metadata;
  }
  if (store_assumed) return model_metadata(file.stored.model, file.stored.train_seq_len);
  for (const auto& option : options) {
    const bool ours = option.name == "OUTPUT" || option.name == "OVERWRITE" || option.name == "STORE_ASSUMED";
    if (option.source == Source::flag && !ours) {
      throw Error(ExitCode::usage,
                  format("%s says something about %s, which stores no configuration, and nothing would be stored",
                         option.origin.c_str(), file.path.c_str()),
                  "--store-assumed true stores it, with the other assumed values");
    }
  }
  return {};
}

}  // namespace

ExitCode run_export(int argc, const char* const* argv) {
  Common common;
  std::string output;
  bool overwrite = false, store_assumed = false;
  OptionTable table("eval_gpt export CHECKPOINT --output FILE [--OPTION VALUE]...",
                    "Writes a stored model in the form that the output's suffix asks for: .safetensors, .pt (a state dict for\n"
                    "torch.load) or .ptz (the int8 artifact). Between the first two not a bit changes.");
  table.accept_positional(&common.positional);
  table.add_action({.name = "help", .field = &common.help, .help = "Print this and stop.", .stops = true});
  table.add_action({.name = "overwrite", .field = &overwrite, .help = "Replace the output if it exists."});
  table.group("Export");
  table.add_required("OUTPUT", bind::text(&output), "", "File to write: *.safetensors, *.pt or *.ptz.");
  table.add("STORE_ASSUMED", bind::boolean(&store_assumed), "",
            "For a file without a configuration: store what was inferred, assumed and given by the flags below.");
  add_unsaid(table, common.unsaid);
  const auto options = table.resolve(argc, argv, {}).options;
  if (common.help) {
    std::fputs(table.help().c_str(), stdout);
    return ExitCode::ok;
  }
  if (common.positional.size() != 1)
    throw Error(ExitCode::usage, "export takes exactly one checkpoint", "see eval_gpt export --help");
  check_output(output, overwrite);
  const ModelFile file = read_model(common.positional[0], common, options);
  const ModelMetadata metadata = metadata_to_store(file, store_assumed, options);
  if (file.format.codes != CodeFormat::none && model_format(output).codes != CodeFormat::none)
    log::warn(format("%s is quantised already; rounding its weights again may move them a little", file.path.c_str()));
  write_model(output, file.state, file.stored.model, metadata);
  const char* stored =
      file.metadata.empty() ? (metadata.empty() ? "no configuration" : "assumed configuration") : "configuration";
  log::info(format("%s: %s bytes, %zu tensors, %s, from %s (%s)%s", output.c_str(),
                   with_commas(static_cast<int64_t>(fs::file_size(output))).c_str(), file.state.size(), stored, file.path.c_str(),
                   format_text(file.format).c_str(),
                   metadata.empty() || file.assumed.empty() ? "" : (" assumed:" + join(file.assumed, " ")).c_str()));
  return ExitCode::ok;
}

}  // namespace pgolf
