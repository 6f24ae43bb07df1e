// eval_gpt generate: samples text from a stored model.
#include "pgolf/model/generate.h"

#include <cstdio>
#include <iostream>
#include <iterator>

#include "commands.h"
#include "common.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/stopwatch.h"
#include "pgolf/data/text_stream.h"

namespace pgolf {
namespace {

constexpr size_t kMaxPromptBytes = size_t{64} << 20;  // bytes
constexpr int64_t kMaxSeed = 4'294'967'295;           // what LibTorch's generator takes

/// path: "-" is standard input.
std::string read_prompt(const std::string& path) {
  if (path != "-") return read_text(path, kMaxPromptBytes);
  std::string text;
  char buffer[1 << 16];
  while (std::cin.read(buffer, sizeof buffer), std::cin.gcount() > 0) {
    text.append(buffer, static_cast<size_t>(std::cin.gcount()));
    if (text.size() > kMaxPromptBytes)
      throw Error(ExitCode::bad_input, format("the prompt on standard input is longer than %zu bytes", kMaxPromptBytes));
  }
  return text;
}

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

/// Prints the prompt and, token by token, its continuation; timings go to standard error.
void print_sample(Gpt& model, const Tokenizer& tokenizer, const std::vector<int>& prompt, const GenerateOptions& options,
                  const at::Device& device) {
  TextStream text(tokenizer);
  std::string line = format("[%lld] ", static_cast<long long>(options.seed));
  for (const int id : prompt) line += text.push(id);
  print(line);
  Stopwatch watch;
  double first = 0, rest = 0;
  const auto produced = generate(model, prompt, options, device, [&](int id) {
    (first == 0 ? first : rest) += watch.lap();
    print(text.push(id));
    return true;
  });
  print(text.finish() + "\n");
  std::string times = format("%zu tokens after a prompt of %zu", produced.size(), prompt.size());
  if (!produced.empty()) times += format(", first in %.3fs", first);
  if (rest > 0) times += format(", then %.1f tokens/s", static_cast<double>(produced.size() - 1) / rest);
  std::fprintf(stderr, "%s\n", times.c_str());
}

}  // namespace

ExitCode run_generate(int argc, const char* const* argv) {
  Common common;
  std::string prompt, prompt_file;
  GenerateOptions options;
  int num_samples = 1;
  OptionTable table(
      "eval_gpt generate MODEL --prompt TEXT [--OPTION VALUE]...",
      "Prints continuations of a prompt as they are sampled. The context is the training length; whenever a text outgrows\n"
      "it, the older half of the context is dropped (docs/generation.md).");
  add_common(table, common);
  table.group("Generate");
  table.add("PROMPT", bind::text(&prompt), "", "Text to continue.");
  table.add("PROMPT_FILE", bind::text(&prompt_file), "",
            "File with the text to continue, - for standard input; an empty file starts a new document.");
  table.add("MAX_NEW_TOKENS", bind::integer(&options.max_new_tokens, 1, 1 << 20), "tokens", "Maximum length of a continuation.");
  table.add("TEMPERATURE", bind::number(&options.temperature, {.low = 0, .high = kMaxTemperature}), "",
            "Sampling temperature; 0 = greedy.");
  table.add("TOP_K", bind::integer(&options.top_k, 0), "tokens", "Sample from the TOP_K most likely tokens; 0 = all.");
  table.add("TOP_P", bind::number(&options.top_p, {.low = 0, .high = 1, .low_open = true}), "",
            "Of these, sample from the smallest set of most likely tokens whose total probability reaches TOP_P.");
  table.add("SEED", bind::integer(&options.seed, 0, kMaxSeed), "", "Seed of the first sample; each further sample adds 1.");
  table.add("NUM_SAMPLES", bind::integer(&num_samples, 1, 1 << 20), "", "Number of continuations.");
  table.add("KV_CACHE", bind::boolean(&options.kv_cache), "",
            "Cache the keys and values of earlier tokens; 0 recomputes them for every token, to check or time the cache.");
  const auto options_given = table.resolve(argc, argv, {}).options;
  if (common.help) {
    std::fputs(table.help().c_str(), stdout);
    return ExitCode::ok;
  }
  if (common.positional.size() != 1)
    throw Error(ExitCode::usage, "generate takes exactly one model", "see eval_gpt generate --help");
  if (prompt.empty() == prompt_file.empty())
    throw Error(ExitCode::usage, "generate takes either a prompt or a prompt file",
                "--prompt TEXT, --prompt-file FILE, or --prompt-file - for standard input");
  if (options.seed + num_samples - 1 > kMaxSeed)
    throw Error(ExitCode::usage,
                format("the seed of the last of %d samples is above %lld", num_samples, static_cast<long long>(kMaxSeed)),
                "choose a smaller --seed");
  if (!prompt_file.empty()) prompt = read_prompt(prompt_file);
  const Runtime runtime = start_runtime(common.runtime);
  const ModelFile file = read_model(common.positional[0], common, options_given);
  const Tokenizer tokenizer(common.tokenizer());
  require_tokenizer(tokenizer, file);
  Gpt model = build_model(file, runtime.dtype, common.runtime.ops, runtime.device);
  options.context = file.stored.train_seq_len;
  options.ends = tokenizer.document_ends();
  std::vector<int> ids{tokenizer.required_bos_id()};
  for (const int id : tokenizer.encode(prompt)) ids.push_back(id);
  for (int i = 0; i < num_samples; ++i, ++options.seed) print_sample(model, tokenizer, ids, options, runtime.device);
  return ExitCode::ok;
}

}  // namespace pgolf
