// eval_gpt score: validation loss and bits per byte of stored models.
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "commands.h"
#include "common.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/progress.h"
#include "pgolf/eval/bpb.h"

namespace pgolf {
namespace {

std::string join(const std::vector<std::string>& parts) {
  std::string out;
  for (const auto& part : parts) out += (out.empty() ? "" : " ") + part;
  return out;
}

}  // namespace

ExitCode run_score(int argc, const char* const* argv) {
  enum class Format { text, jsonl };
  Common common;
  std::string val_files;
  int seq_len = 0;
  int64_t eval_tokens = 0, batch_tokens = 65'536;
  Format output = Format::text;
  OptionTable table("eval_gpt [score] CHECKPOINT... --val-files GLOB [--OPTION VALUE]...",
                    "Prints val_loss and val_bpb of run folders, final_model.pt, *.int8.ptz (ours and the Python program's) and "
                    "training checkpoints.");
  add_common(table, common);
  table.group("Score");
  table.add_required("VAL_FILES", bind::text(&val_files), "", "Validation shards, a quoted shell pattern.");
  table.add("EVAL_SEQ_LEN", bind::integer(&seq_len, 0, 1 << 24), "tokens", "Window length; 0 = that of the training.");
  table.add("EVAL_TOKENS", bind::integer(&eval_tokens, 0), "tokens", "Targets scored; 0 = all.");
  table.add("VAL_BATCH_SIZE", bind::integer(&batch_tokens, 1), "tokens", "Per forward pass.");
  table.add("FORMAT", bind::choice(&output, {{"text", Format::text}, {"jsonl", Format::jsonl}}), "", "Form of the result.");
  const auto options_given = table.resolve(argc, argv, {}).options;
  if (common.help) {
    std::fputs((table.help() + "\neval_gpt generate --help: sample text from a model.\neval_gpt measure --help: everything that "
                               "can be measured on one.\n")
                   .c_str(),
               stdout);
    return ExitCode::ok;
  }
  if (common.positional.empty())
    throw Error(ExitCode::usage, "no checkpoint given", "eval_gpt CHECKPOINT... --val-files GLOB; see eval_gpt --help");
  const Runtime runtime = start_runtime(common.runtime, 0);
  const Tokenizer tokenizer(common.tokenizer_path);
  ExitCode code = ExitCode::ok;
  for (const auto& path : common.positional) {
    try {
      const ModelFile file = read_model(path, common, options_given);
      tokenizer.require_vocab_size(file.stored.model.vocab_size);
      const int length = seq_len > 0 ? seq_len : file.stored.train_seq_len;
      const ValidationSet validation(val_files, length, eval_tokens, file.stored.model.vocab_size);
      const ByteCounts byte_counts(tokenizer, file.stored.model.vocab_size);
      Gpt model = build_model(file, runtime.dtype, common.runtime.ops, runtime.device);
      Progress bar("scoring", validation.sequences());
      EvalOptions options;
      options.seq_len = length;
      options.batch_sequences = std::max<int64_t>(1, batch_tokens / length);
      options.device = runtime.device;
      options.progress = [&bar](int64_t done, int64_t) { bar.update(done); };
      const auto start = std::chrono::steady_clock::now();
      const EvalResult result = evaluate(model, validation, byte_counts, options);
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      bar.finish();
      if (output == Format::jsonl) {
        const nlohmann::ordered_json line{
            {"checkpoint", path},        {"format", file.format}, {"seq_len", length},
            {"tokens", result.tokens},   {"bytes", result.bytes}, {"val_loss", result.val_loss},
            {"val_bpb", result.val_bpb}, {"seconds", seconds},    {"rope_dims", file.stored.model.rope.rope_dims},
            {"assumed", file.assumed}};
        std::printf("%s\n", line.dump().c_str());
      } else {
        std::printf(
            "%s val_loss:%.8f val_bpb:%.8f tokens:%lld bytes:%lld seq_len:%d rope_dims:%d format:%s%s%s eval_time:%.0fms\n",
            path.c_str(), result.val_loss, result.val_bpb, static_cast<long long>(result.tokens),
            static_cast<long long>(result.bytes), length, file.stored.model.rope.rope_dims, file.format.c_str(),
            file.assumed.empty() ? "" : " assumed:", join(file.assumed).c_str(), 1000 * seconds);
      }
      std::fflush(stdout);
    } catch (const Error& e) {
      // One bad file among many does not hide the others' numbers.
      if (common.positional.size() == 1) throw;
      log::warn(e.what());
      code = e.code();
    }
  }
  return code;
}

}  // namespace pgolf
