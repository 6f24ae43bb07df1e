// eval_gpt: measures stored models, and lets them speak.
#include <torch/types.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/progress.h"
#include "pgolf/config/options.h"
#include "pgolf/config/rope_options.h"
#include "pgolf/eval/bpb.h"
#include "pgolf/eval/generate.h"
#include "pgolf/eval/model_file.h"
#include "pgolf/train/runtime.h"

using namespace pgolf;

namespace {

/// What a Python file does not say about its model. A file that says it wins; a flag that contradicts it is an error.
struct Unsaid {
  RopeRequest rope;
  StoredModel stored;
};

/// What both commands take.
struct Common {
  std::vector<std::string> positional;
  std::string tokenizer_path = "./data/tokenizers/fineweb_1024_bpe.model";
  RuntimeConfig runtime;
  Unsaid unsaid;
  std::string eval_rope_dims = "stored";
  bool help = false;
};

void add_common(OptionTable& table, Common& common) {
  table.accept_positional(&common.positional);
  table.add_action({.name = "help", .field = &common.help, .help = "Print this and stop.", .stops = true});
  table.group("Common");
  table.add("TOKENIZER_PATH", bind::text(&common.tokenizer_path), "", "SentencePiece model, a .model file.");
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
            "0 = physical cores allowed to the process.");
  auto& model = common.unsaid.stored.model;
  table.add("EVAL_ROPE_DIMS", bind::text(&common.eval_rope_dims), "lanes",
            "Rotate other lanes than in training, in all layers, to see what that does: full, none or an even number.");
  table.group("For files that do not say it (the Python program's)");
  add_rope_options(table, &model, &common.unsaid.rope, Resume::may_differ);
  table.add("PARALLEL_BLOCK", bind::boolean(&model.parallel_block), "",
            "Attention and MLP of a block read the same normalised input.");
  table.add("LOGIT_SOFTCAP", bind::number(&model.logit_softcap, {.low = 0, .low_open = true}), "",
            "Logits become cap * tanh(logits / cap).");
}

/// The options above that a model's metadata has, too.
constexpr const char* kModelOptions[] = {"ROPE_DIMS",        "ROPE_LAYERS",  "ROPE_BASE",           "ROPE_STYLE",
                                         "ROPE_SELECT",      "ROPE_SCALING", "ROPE_SCALING_FACTOR", "ROPE_ORIGINAL_SEQ_LEN",
                                         "ROPE_TABLE_DTYPE", "QK_NORM",      "PARALLEL_BLOCK",      "LOGIT_SOFTCAP"};

/// Fills in from flags what the file does not say; refuses flags that contradict what it says.
void apply_flags(ModelFile& file, const Common& common, std::vector<ResolvedOption> options) {
  const auto given = [&](const char* name) { return find_option(options, name).source == Source::flag; };
  const auto said = model_metadata(file.stored.model, file.stored.train_seq_len);
  ModelConfig model = file.stored.model;
  const ModelConfig& flags = common.unsaid.stored.model;
  model.rope = flags.rope;
  model.qk_norm = flags.qk_norm;
  model.parallel_block = flags.parallel_block;
  model.logit_softcap = flags.logit_softcap;
  std::vector<std::string> warnings;
  resolve_rope(common.unsaid.rope, &model, &options, &warnings);
  for (const auto& warning : warnings) log::warn(warning);
  if (file.assumed.empty()) {
    for (const char* name : kModelOptions) {
      const std::string text = find_option(options, name).text;
      const bool meant = given(name) || (name == std::string("ROPE_DIMS") && given("ROPE_FRACTION"));
      if (meant && text != said.at(name)) {
        throw Error(
            ExitCode::usage,
            format("%s=%s, but %s was trained with %s=%s", name, text.c_str(), file.path.c_str(), name, said.at(name).c_str()),
            "leave the flag out; --eval-rope-dims evaluates with other lanes than those of the training");
      }
    }
  } else {
    file.stored.model = model;
    const auto now = model_metadata(model, file.stored.train_seq_len);
    const auto listed = [&](const std::string& name) {
      return std::any_of(file.assumed.begin(), file.assumed.end(),
                         [&](const std::string& assumption) { return assumption.rfind(name + "=", 0) == 0; });
    };
    for (const char* name : kModelOptions) {
      if (given(name) && !listed(name)) file.assumed.push_back(std::string(name) + "=");
    }
    for (auto& assumption : file.assumed) {
      const std::string name = assumption.substr(0, assumption.find('='));
      assumption = name + "=" + now.at(name);
    }
  }
  if (common.eval_rope_dims == "stored") return;
  ModelConfig& used = file.stored.model;
  std::string warning;
  const std::string trained = used.rope_layers.empty() ? said.at("ROPE_DIMS") : said.at("ROPE_LAYERS");
  used.rope.rope_dims = parse_rope_dims(common.eval_rope_dims, used.rope.head_dim, &warning);
  used.rope_layers.clear();
  if (!warning.empty()) log::warn(warning);
  log::warn(format("%s: %s rotate by --eval-rope-dims; it was trained with %s", file.path.c_str(),
                   describe_rope_dims(used.rope).c_str(), trained.c_str()));
}

std::string join(const std::vector<std::string>& parts) {
  std::string out;
  for (const auto& part : parts) out += (out.empty() ? "" : " ") + part;
  return out;
}

ExitCode score(int argc, const char* const* argv) {
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
    std::fputs((table.help() + "\neval_gpt generate --help: sample text from a model.\n").c_str(), stdout);
    return ExitCode::ok;
  }
  if (common.positional.empty())
    throw Error(ExitCode::usage, "no checkpoint given", "eval_gpt CHECKPOINT... --val-files GLOB; see eval_gpt --help");
  const Runtime runtime = start_runtime(common.runtime, 0);
  const Tokenizer tokenizer(common.tokenizer_path);
  ExitCode code = ExitCode::ok;
  for (const auto& path : common.positional) {
    try {
      ModelFile file = read_model_file(path);
      apply_flags(file, common, options_given);
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

ExitCode speak(int argc, const char* const* argv) {
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
  ModelFile file = read_model_file(common.positional[0]);
  apply_flags(file, common, options_given);
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

}  // namespace

int main(int argc, char** argv) {
  return run_main([&] {
    const std::string command = argc > 1 ? argv[1] : "";
    if (command == "generate") return speak(argc - 1, argv + 1);
    if (command == "score") return score(argc - 1, argv + 1);
    return score(argc, argv);
  });
}
