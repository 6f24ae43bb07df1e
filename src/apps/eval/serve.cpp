// eval_gpt serve: serves a stored model over HTTP.
#include <cstdio>
#include <filesystem>

#include "commands.h"
#include "common.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/text.h"
#include "pgolf/data/tokenizer.h"
#include "pgolf/serve/gpt_language_model.h"
#include "pgolf/serve/server.h"

namespace pgolf {
namespace {

/// Whether JSON and a log line can hold it unchanged.
bool is_clean(const std::string& name) {
  return !name.empty() && valid_utf8_bytes(name) == name.size() && printable(name, name.size()) == name;
}

/// Name of the run folder, or of the file without its suffixes.
std::string name_of(const std::string& checkpoint) {
  std::filesystem::path path = std::filesystem::path(checkpoint).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();
  std::string name = path.filename().string();
  for (const char* suffix : {".ptz", ".int8", ".pt", ".safetensors"}) {
    if (name.ends_with(suffix)) name.resize(name.size() - std::string_view(suffix).size());
  }
  return is_clean(name) ? name : "model";
}

}  // namespace

ExitCode run_serve(int argc, const char* const* argv) {
  Common common;
  ServerOptions options;
  OptionTable table("eval_gpt serve MODEL [--OPTION VALUE]...",
                    "Serves OpenAI's completions API over HTTP, and a web page to try the model (docs/serving.md).");
  add_common(table, common);
  table.group("Serve");
  table.add("HOST", bind::text(&options.host), "",
            "Address to listen on. There is no authentication: anyone who can reach a non-loopback address can use the server.");
  table.add("PORT", bind::integer(&options.port, 0, 65535), "", "0 = any free port; the first line printed names it.");
  Binding name = bind::text(&options.model_name);
  name.default_text = "name of the file or folder";
  table.add("MODEL_NAME", name, "", "Model name in the API.");
  table.add("MAX_TOKENS", bind::integer(&options.max_tokens, 1, 1 << 20), "tokens", "Maximum max_tokens of a request.");
  table.add("MAX_CHOICES", bind::integer(&options.max_choices, 1, 1 << 16), "", "Maximum number of texts per request.");
  table.add("MAX_REQUESTS", bind::integer(&options.max_requests, 1, 512), "",
            "Maximum number of concurrent completions; further ones get a 503.");
  table.add("MAX_BODY_BYTES", bind::integer(&options.max_body_bytes, 1024, int64_t{1} << 30), "bytes",
            "Maximum size of a request body.");
  const auto options_given = table.resolve(argc, argv, {}).options;
  if (common.help) {
    std::fputs(table.help().c_str(), stdout);
    return ExitCode::ok;
  }
  if (common.positional.size() != 1)
    throw Error(ExitCode::usage, "serve takes exactly one model", "see eval_gpt serve --help");
  if (options.model_name.empty()) options.model_name = name_of(common.positional[0]);
  if (!is_clean(options.model_name))
    throw Error(ExitCode::usage, "--model-name is not UTF-8, or has control characters", "choose a name of letters and digits");
  install_stop_signals();
  const Runtime runtime = start_runtime(common.runtime);
  const ModelFile file = read_model(common.positional[0], common, options_given);
  const Tokenizer tokenizer(common.tokenizer());
  require_tokenizer(tokenizer, file);
  const auto model = make_language_model(build_model(file, runtime.dtype, common.runtime.ops, runtime.device),
                                         file.stored.train_seq_len, tokenizer.required_bos_id(), runtime.device);
  // The server computes on another thread, whose stream does not wait for this one's.
  synchronize(runtime.device);
  Server server(*model, tokenizer, options);
  if (!is_loopback(options.host))
    log::warn(
        format("HOST=%s can be reached from other machines, and there is no authentication", printable(options.host).c_str()));
  bool printed = true;
  server.run(
      [&] {
        const bool v6 = options.host.find(':') != std::string::npos;
        log::info(format("serving %s at http://%s%s%s:%d", options.model_name.c_str(), v6 ? "[" : "", options.host.c_str(),
                         v6 ? "]" : "", server.port()));
        printed = std::ferror(stdout) == 0;
      },
      [&] { return !printed || stop_signal() != 0; });
  if (!printed) throw Error(ExitCode::io, "cannot write the server's address to standard output");
  return ExitCode::ok;
}

}  // namespace pgolf
