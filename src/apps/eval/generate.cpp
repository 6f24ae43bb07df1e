// eval_gpt generate: lets a stored model speak.
#include "pgolf/eval/generate.h"

#include <cstdio>

#include "commands.h"
#include "common.h"
#include "pgolf/data/tokenizer.h"

namespace pgolf {

ExitCode run_generate(int argc, const char* const* argv) {
  Common common;
  std::string prompt;
  GenerateOptions options;
  int num_samples = 1;
  options.context = 0;
  OptionTable table("eval_gpt generate CHECKPOINT --prompt TEXT [--OPTION VALUE]...", "Prints continuations of a prompt.");
  add_common(table, common);
  table.group("Generate");
  table.add_required("PROMPT", bind::text(&prompt), "", "Text to continue.");
  table.add("MAX_NEW_TOKENS", bind::integer(&options.max_new_tokens, 1, 1 << 20), "tokens", "Length of a continuation.");
  table.add("TEMPERATURE", bind::number(&options.temperature, {.low = 0}), "", "0 = always the likeliest token.");
  table.add("TOP_K", bind::integer(&options.top_k, 0), "tokens", "Sample among the likeliest; 0 = all.");
  table.add("SEED", bind::integer(&options.seed, 0), "", "Of the first sample; the next one's is one higher.");
  table.add("NUM_SAMPLES", bind::integer(&num_samples, 1, 1 << 20), "", "Continuations to print.");
  const auto options_given = table.resolve(argc, argv, {}).options;
  if (common.help) {
    std::fputs(table.help().c_str(), stdout);
    return ExitCode::ok;
  }
  if (common.positional.size() != 1)
    throw Error(ExitCode::usage, "generate takes exactly one checkpoint", "see eval_gpt generate --help");
  const Runtime runtime = start_runtime(common.runtime, 0);
  const ModelFile file = read_model(common.positional[0], common, options_given);
  const Tokenizer tokenizer(common.tokenizer_path);
  tokenizer.require_vocab_size(file.stored.model.vocab_size);
  Gpt model = build_model(file, runtime.dtype, common.runtime.ops, runtime.device);
  options.context = file.stored.train_seq_len;
  std::vector<int> ids{tokenizer.bos_id()};
  for (const int id : tokenizer.encode(prompt)) ids.push_back(id);
  for (int i = 0; i < num_samples; ++i, ++options.seed) {
    auto text = ids;
    for (const int id : generate(model, ids, options, runtime.device)) text.push_back(id);
    std::printf("[%lld] %s\n", static_cast<long long>(options.seed), tokenizer.decode(text).c_str());
    std::fflush(stdout);
  }
  return ExitCode::ok;
}

}  // namespace pgolf
