// prepare_data: trains tokenizers, turns text into shards, checks and shows shards.
#define CXXOPTS_VECTOR_DELIMITER '\0'  // a comma in a path is part of the path
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cxxopts.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pgolf/data/shard.h"
#include "pgolf/prepare/prepare.h"

namespace pgolf {
namespace {

struct OptionRow {
  std::string name;
  std::string placeholder;  // empty: a switch
  std::string help;
  std::string default_value;  // empty: none
};

/// One sub-command's arguments. Words without a dash go to the option named positional.
class Arguments {
 public:
  Arguments(const std::string& command, const std::string& summary, std::vector<OptionRow> rows, const std::string& positional,
            int argc, char** argv)
      : command_(command), options_("prepare_data " + command, summary) {
    rows.push_back({"help", "", "show this text", ""});
    auto add = options_.add_options();
    std::vector<std::string> names;
    for (const auto& row : rows) {
      names.push_back(row.name);
      if (row.placeholder.empty()) {
        add(row.name, row.help);
      } else if (row.name == positional) {
        add(row.name, row.help, cxxopts::value<std::vector<std::string>>(), row.placeholder);
      } else if (row.default_value.empty()) {
        add(row.name, row.help, cxxopts::value<std::string>(), row.placeholder);
      } else {
        add(row.name, row.help, cxxopts::value<std::string>()->default_value(row.default_value), row.placeholder);
      }
    }
    options_.parse_positional(positional);
    options_.positional_help("[PATH...]").show_positional_help();
    reject_unknown(names, argc, argv);
    try {
      result_.emplace(options_.parse(argc, argv));
    } catch (const std::exception& e) {  // the base class of cxxopts' own differs between its versions
      throw Error(ExitCode::usage, format("prepare_data %s: %s", command.c_str(), e.what()), see_help());
    }
  }

  bool help_wanted() const {
    if (!given("help")) return false;
    std::fputs(options_.help().c_str(), stdout);
    return true;
  }

  bool given(const std::string& name) const { return result_->count(name) > 0; }

  std::vector<std::filesystem::path> paths(const std::string& name) const {
    require(name);
    const auto& values = (*result_)[name].as<std::vector<std::string>>();
    return {values.begin(), values.end()};
  }

  std::string text(const std::string& name) const {
    require(name);
    return (*result_)[name].as<std::string>();
  }

  /// Also for options with a default. T is int, int64_t or double.
  template <class T>
  T number(const std::string& name, T low, T high) const {
    const auto text = (*result_)[name].as<std::string>();
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || !(value >= low && value <= high)) {
      throw Error(ExitCode::usage, format("prepare_data %s: --%s takes a number from %s to %s, not \"%s\"", command_.c_str(),
                                          name.c_str(), spell(low).c_str(), spell(high).c_str(), text.c_str()));
    }
    return value;
  }

 private:
  static std::string spell(double value) { return python_float(value); }
  static std::string spell(int64_t value) { return with_commas(value); }
  static std::string spell(int value) { return with_commas(value); }

  std::string see_help() const { return format("prepare_data %s --help lists the options", command_.c_str()); }

  void require(const std::string& name) const {
    if (!given(name))
      throw Error(ExitCode::usage, format("prepare_data %s needs --%s", command_.c_str(), name.c_str()), see_help());
  }

  /// Ahead of cxxopts, whose message lacks the nearest name.
  void reject_unknown(const std::vector<std::string>& names, int argc, char** argv) const {
    for (int i = 1; i < argc; ++i) {
      const std::string_view word = argv[i];
      if (word == "--") return;
      if (!word.starts_with("--")) continue;
      const std::string name(word.substr(2, word.find('=') - 2));
      if (std::find(names.begin(), names.end(), name) != names.end()) continue;
      const std::string nearest = nearest_name(name, names, /*max_distance=*/3);
      throw Error(ExitCode::usage, format("prepare_data %s has no option --%s", command_.c_str(), name.c_str()),
                  nearest.empty() ? see_help() : format("did you mean --%s?", nearest.c_str()));
    }
  }

  std::string command_;
  cxxopts::Options options_;
  std::optional<cxxopts::ParseResult> result_;
};

constexpr const char* kInputHelp = "documents: .txt files (one each), .jsonl files (field \"text\", one a line), folders of them";

void run_tokenizer(int argc, char** argv) {
  const Arguments arguments("tokenizer", "Trains a SentencePiece tokenizer (BPE, byte fallback) on documents.",
                            {{"input", "PATH...", kInputHelp, ""},
                             {"output", "FILE.model", "the tokenizer; its pieces are listed beside it in FILE.vocab", ""},
                             {"vocab-size", "N", "pieces", "1024"},
                             {"max-docs", "N", "train on the first N documents only; 0 = all", "0"},
                             {"split-long", "", "use documents above 4,192 bytes in parts instead of leaving them out", ""}},
                            "input", argc, argv);
  if (arguments.help_wanted()) return;
  TrainTokenizerOptions options;
  options.inputs = arguments.paths("input");
  options.output = arguments.text("output");
  options.vocab_size = arguments.number<int>("vocab-size", 1, kMaxVocabSize);
  options.max_docs = arguments.number<int64_t>("max-docs", 0, INT64_MAX);
  options.split_long = arguments.given("split-long");
  train_tokenizer(options);
}

void run_tokenize(int argc, char** argv) {
  const Arguments arguments(
      "tokenize", "Turns documents into training and validation shards.",
      {{"input", "PATH...", kInputHelp, ""},
       {"tokenizer-path", "FILE.model", "SentencePiece model", ""},
       {"out-dir", "DIR", "receives fineweb_train_*.bin and fineweb_val_*.bin", ""},
       {"val-docs", "N", "the first N documents are validation", ""},
       {"val-fraction", "F", "about this share of the documents is validation, chosen by a hash of each text (default: 0.01)",
        ""},
       {"shard-tokens", "N", "tokens in a full shard", "100000000"},
       {"threads", "N", "encoding threads; 0 = all processors", "0"},
       {"force", "", "replace the shards that DIR already has", ""}},
      "input", argc, argv);
  if (arguments.help_wanted()) return;
  TokenizeOptions options;
  options.inputs = arguments.paths("input");
  options.tokenizer_path = arguments.text("tokenizer-path");
  options.out_dir = arguments.text("out-dir");
  if (arguments.given("val-docs") && arguments.given("val-fraction")) {
    throw Error(ExitCode::usage, "prepare_data tokenize: --val-docs and --val-fraction exclude each other", "give one of them");
  }
  if (arguments.given("val-docs")) {
    options.val_docs = arguments.number<int64_t>("val-docs", 0, INT64_MAX);
  } else {
    options.val_fraction = arguments.given("val-fraction") ? arguments.number<double>("val-fraction", 0.0, 1.0) : 0.01;
  }
  options.shard_tokens = arguments.number<int64_t>("shard-tokens", 1, INT32_MAX);
  options.threads = arguments.number<int>("threads", 0, 1024);
  options.force = arguments.given("force");
  tokenize(options);
}

void run_verify(int argc, char** argv) {
  const Arguments arguments("verify", "Checks shards; prints tokens, documents, bytes and a sha256 of the tokens for each.",
                            {{"path", "PATH...", "shards, or folders whose .bin files are meant", ""},
                             {"tokenizer-path", "FILE.model", "also check every id, and count the bytes of text", ""}},
                            "path", argc, argv);
  if (arguments.help_wanted()) return;
  std::optional<std::filesystem::path> tokenizer_path;
  if (arguments.given("tokenizer-path")) tokenizer_path = arguments.text("tokenizer-path");
  verify_shards(arguments.paths("path"), tokenizer_path);
}

void run_inspect(int argc, char** argv) {
  const Arguments arguments("inspect", "Shows a shard's header facts and the text of some of its tokens.",
                            {{"path", "FILE", "a shard", ""},
                             {"tokenizer-path", "FILE.model", "the tokenizer that the shard was made with", ""},
                             {"offset", "N", "first token", "0"},
                             {"tokens", "N", "how many", "256"}},
                            "path", argc, argv);
  if (arguments.help_wanted()) return;
  const auto paths = arguments.paths("path");
  if (paths.size() != 1) throw Error(ExitCode::usage, format("prepare_data inspect takes one shard, not %zu", paths.size()));
  inspect_shard(paths.front(), arguments.text("tokenizer-path"), arguments.number<int64_t>("offset", 0, INT64_MAX),
                arguments.number<int64_t>("tokens", 1, INT64_MAX));
}

constexpr const char* kUsage =
    "Usage: prepare_data COMMAND [OPTION...]\n"
    "\n"
    "  tokenizer  train a SentencePiece tokenizer on documents\n"
    "  tokenize   turn documents into training and validation shards\n"
    "  verify     check shards; print tokens, documents, bytes and sha256\n"
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
    void (*run)(int, char**);
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
  return pgolf::run_main([&] { return pgolf::run(argc, argv); });
}
