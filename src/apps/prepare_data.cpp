// prepare_data: trains tokenizers, tokenizes text into shards, verifies and shows shards.
#include <cstdint>
#include <cstdio>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/config/options.h"
#include "pgolf/data/shard.h"
#include "pgolf/prepare/prepare.h"

namespace pgolf {
namespace {

/// Arguments of a subcommand. Positional arguments are paths too.
class Arguments {
 public:
  Arguments(const std::string& command, const std::string& summary, const std::string& paths_flag, const std::string& paths_help)
      : command_(command),
        paths_flag_(paths_flag),
        table_("prepare_data " + command + " [PATH]... [--OPTION VALUE]...", summary) {
    table_.accept_positional(&paths_);
    table_.add_action({.name = paths_flag, .field = &paths_, .help = paths_help, .label = "PATH"});
    table_.add_action({.name = "help", .field = &help_, .help = "Print this help and exit.", .stops = true});
    table_.group("Options");
  }
  Arguments(const Arguments&) = delete;
  Arguments& operator=(const Arguments&) = delete;

  OptionTable& table() { return table_; }

  /// False if --help was given; it has been printed then.
  bool resolve(int argc, const char* const* argv) {
    resolved_ = table_.resolve(argc, argv, {}).options;
    if (help_) std::fputs(table_.help().c_str(), stdout);
    return !help_;
  }

  bool given(const char* name) const { return find_option(resolved_, name).source != Source::default_value; }

  std::vector<std::filesystem::path> paths() const {
    if (paths_.empty()) {
      throw Error(ExitCode::usage, format("prepare_data %s needs --%s", command_.c_str(), paths_flag_.c_str()),
                  format("prepare_data %s --help lists the options", command_.c_str()));
    }
    return {paths_.begin(), paths_.end()};
  }

 private:
  std::string command_, paths_flag_;
  std::vector<std::string> paths_;
  bool help_ = false;
  OptionTable table_;
  std::vector<ResolvedOption> resolved_;
};

constexpr const char* kInputHelp =
    "Documents: .txt files (one document each), .jsonl files (one per line, in \"text\"), or folders of these. Repeatable.";

void run_tokenizer(int argc, const char* const* argv) {
  TrainTokenizerOptions options;
  std::string output;
  Arguments arguments("tokenizer", "Trains a SentencePiece tokenizer (BPE, byte fallback) on documents.", "input", kInputHelp);
  OptionTable& table = arguments.table();
  table.add_required("OUTPUT", bind::text(&output), "",
                     "Tokenizer to write, a .model file; its pieces are listed in a .vocab file next to it.");
  table.add("VOCAB_SIZE", bind::integer(&options.vocab_size, 1, kMaxVocabSize), "pieces", "Vocabulary size.");
  table.add("MAX_DOCS", bind::integer(&options.max_docs, 0), "documents", "Train on the first MAX_DOCS documents only; 0 = all.");
  table.add(
      "SPLIT_LONG", bind::boolean(&options.split_long), "",
      format("Split documents longer than %s bytes instead of skipping them.", with_commas(int64_t{kMaxTextBytes}).c_str()));
  table.add(
      "NORMALIZATION", bind::choice(&options.normalization), "",
      "What the tokenizer does to text first. nmt_nfkc: as upstream's, common forms of characters and single spaces. identity: "
      "nothing, so that tokens stand for every byte of the text.");
  if (!arguments.resolve(argc, argv)) return;
  options.inputs = arguments.paths();
  options.output = output;
  train_tokenizer(options);
}

void run_tokenize(int argc, const char* const* argv) {
  TokenizeOptions options;
  std::string tokenizer_path, out_dir;
  int64_t val_docs = 0;
  double val_fraction = 0.01;
  Arguments arguments(
      "tokenize",
      "Tokenizes documents into training and validation shards. Warns if the tokens count other bytes than the text has,\n"
      "and fails if spaces and unknown characters account for more than 5 % (data/README.md).",
      "input", kInputHelp);
  OptionTable& table = arguments.table();
  Binding first = bind::integer(&val_docs, 0);
  first.default_text = "none";
  table.add_required("TOKENIZER_PATH", bind::text(&tokenizer_path), "", "SentencePiece model, a .model file.");
  table.add_required("OUT_DIR", bind::text(&out_dir), "", "Output folder for fineweb_train_*.bin and fineweb_val_*.bin.");
  table.add("VAL_DOCS", first, "documents", "Use the first VAL_DOCS documents for validation.");
  table.add("VAL_FRACTION", bind::number(&val_fraction, {.low = 0, .high = 1}), "",
            "Approximate fraction of the documents to use for validation, chosen by a hash of each text.");
  table.add("SHARD_TOKENS", bind::integer(&options.shard_tokens, 1, std::numeric_limits<int32_t>::max()), "tokens",
            "Tokens per full shard.");
  table.add("THREADS", bind::integer(&options.threads, 0, 1024), "threads", "Encoding threads; 0 = all processors.");
  table.add("FORCE", bind::boolean(&options.force), "", "Replace existing shards in OUT_DIR.");
  table.add("BYTE_COUNT", bind::choice(&options.byte_counting), "", kByteCountHelp);
  if (!arguments.resolve(argc, argv)) return;
  options.inputs = arguments.paths();
  options.tokenizer_path = tokenizer_path;
  options.out_dir = out_dir;
  if (arguments.given("VAL_DOCS") && arguments.given("VAL_FRACTION")) {
    throw Error(ExitCode::usage, "prepare_data tokenize: --val-docs and --val-fraction are mutually exclusive",
                "pass one of them");
  }
  if (arguments.given("VAL_DOCS")) {
    options.val_docs = val_docs;
  } else {
    options.val_fraction = val_fraction;
  }
  tokenize(options);
}

void run_verify(int argc, const char* const* argv) {
  std::string tokenizer_path;
  Arguments arguments("verify", "Verifies shards; prints tokens, documents, bytes and the SHA-256 of the tokens for each.",
                      "path", "Shards, or folders of .bin files. Repeatable.");
  arguments.table().add("TOKENIZER_PATH", bind::text(&tokenizer_path), "",
                        "A .model file; if given, also check token ids and count bytes of text.");
  ByteCounting byte_counting = ByteCounting::rule;
  arguments.table().add("BYTE_COUNT", bind::choice(&byte_counting), "", kByteCountHelp);
  if (!arguments.resolve(argc, argv)) return;
  std::optional<std::filesystem::path> tokenizer;
  if (!tokenizer_path.empty()) tokenizer = tokenizer_path;
  verify_shards(arguments.paths(), tokenizer, byte_counting);
}

void run_inspect(int argc, const char* const* argv) {
  std::string tokenizer_path;
  int64_t offset = 0, tokens = 256;
  Arguments arguments("inspect", "Shows a shard's header and the text of a range of its tokens.", "path", "Shard to show.");
  OptionTable& table = arguments.table();
  table.add_required("TOKENIZER_PATH", bind::text(&tokenizer_path), "", "Tokenizer that the shard was made with.");
  table.add("OFFSET", bind::integer(&offset, 0), "tokens", "Tokens to skip.");
  table.add("TOKENS", bind::integer(&tokens, 1), "tokens", "Tokens to show.");
  if (!arguments.resolve(argc, argv)) return;
  const auto paths = arguments.paths();
  if (paths.size() != 1) throw Error(ExitCode::usage, format("prepare_data inspect takes one shard, not %zu", paths.size()));
  inspect_shard(paths.front(), tokenizer_path, offset, tokens);
}

constexpr const char* kUsage =
    "Usage: prepare_data COMMAND [OPTION...]\n"
    "\n"
    "  tokenizer  train a SentencePiece tokenizer on documents\n"
    "  tokenize   tokenize documents into training and validation shards\n"
    "  verify     verify shards; print tokens, documents, bytes and SHA-256\n"
    "  inspect    show the text of a range of tokens\n"
    "\n"
    "prepare_data COMMAND --help lists a command's options.\n";

ExitCode run(int argc, char** argv) {
  if (argc < 2)
    throw Error(ExitCode::usage, "prepare_data needs a command: tokenizer, tokenize, verify or inspect",
                "see prepare_data --help");
  const std::string command = argv[1];
  if (command == "--help" || command == "-h") {
    std::fputs(kUsage, stdout);
    return ExitCode::ok;
  }
  struct Command {
    const char* name;
    void (*run)(int argc, const char* const* argv);
  };
  const Command commands[] = {
      {"tokenizer", run_tokenizer}, {"tokenize", run_tokenize}, {"verify", run_verify}, {"inspect", run_inspect}};
  std::vector<std::string> names;
  for (const auto& candidate : commands) {
    if (command == candidate.name) {
      candidate.run(argc - 1, argv + 1);
      return ExitCode::ok;
    }
    names.push_back(candidate.name);
  }
  const std::string nearest = nearest_name(command, names, /*max_distance=*/3);
  throw Error(ExitCode::usage, format("prepare_data has no command \"%s\"", command.c_str()),
              nearest.empty() ? "see prepare_data --help" : format("did you mean %s?", nearest.c_str()));
}

}  // namespace
}  // namespace pgolf

int main(int argc, char** argv) {
  return pgolf::end_program(pgolf::run_main([&] { return pgolf::run(argc, argv); }));
}
