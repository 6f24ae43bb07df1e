#include <sentencepiece_trainer.h>

#include <algorithm>
#include <exception>
#include <optional>
#include <unordered_map>
#include <utility>

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/text.h"
#include "pgolf/data/tokenizer.h"
#include "pgolf/prepare/byte_report.h"
#include "pgolf/prepare/created_folder.h"
#include "pgolf/prepare/documents.h"
#include "pgolf/prepare/prepare.h"

namespace pgolf {
namespace {

/// The longest prefix of text of at most kMaxTextBytes bytes that ends before a line end, else before a space, else
/// between two characters.
std::string_view leading_part(std::string_view text) {
  if (text.size() <= kMaxTextBytes) return text;
  const std::string_view window = text.substr(0, kMaxTextBytes + 1);
  for (const char* ends : {"\n", " \t"}) {
    const size_t at = window.find_last_of(ends);
    if (at != std::string_view::npos && at > 0) return text.substr(0, at);
  }
  size_t at = kMaxTextBytes;
  while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return text.substr(0, at);
}

/// Whether a space is in the text that no normalization takes away. SentencePiece leaves out texts with U+2585.
bool has_lasting_space(std::string_view text) {
  if (text.find("\u2585") != std::string_view::npos) return false;
  const auto lasts = [](char c) { return c > ' ' && c < 0x7F; };
  for (size_t at = 0; (at = text.find(' ', at)) != std::string_view::npos; ++at) {
    if (at > 0 && at + 1 < text.size() && lasts(text[at - 1]) && lasts(text[at + 1])) return true;
  }
  return false;
}

/// Feeds documents to SentencePiece as upstream does: NUL becomes a space, texts are trimmed, empty ones skipped. If none of them
/// has a space, a text with one follows: SentencePiece ends the process if a required character does not occur. Exceptions are
/// kept for the caller, because SentencePiece's code is not exception-safe.
class TrainingTexts : public sentencepiece::SentenceIterator {
 public:
  explicit TrainingTexts(const TrainTokenizerOptions& options)
      : reader_(options.inputs), max_docs_(options.max_docs), split_long_(options.split_long) {
    Next();
  }

  bool done() const override { return done_; }
  const std::string& value() const override { return text_; }
  sentencepiece::util::Status status() const override { return {}; }

  void Next() override {
    bool more = false;
    try {
      more = !failure_ && advance();
    } catch (...) {
      failure_ = std::current_exception();
    }
    done_ = !more && !add_space();
  }

  void rethrow_failure() const {
    if (failure_) std::rethrow_exception(failure_);
  }
  DocumentReader& reader() { return reader_; }
  int64_t documents() const { return documents_; }
  int64_t texts() const { return texts_; }
  int64_t too_long() const { return too_long_; }
  int64_t bytes() const { return bytes_; }

 private:
  bool advance() {
    while (true) {
      if (rest_.empty()) {
        if (max_docs_ != 0 && documents_ == max_docs_) return false;
        if (!reader_.next(document_)) return false;
        ++documents_;
        std::replace(document_.begin(), document_.end(), '\0', ' ');
        rest_ = trim(document_);
        if (rest_.size() > kMaxTextBytes && !split_long_) {
          ++too_long_;
          rest_ = {};
        }
        continue;
      }
      const std::string_view part = leading_part(rest_);
      rest_ = trim(rest_.substr(part.size()));
      text_ = trim(part);
      has_space_ = has_space_ || has_lasting_space(text_);
      ++texts_;
      bytes_ += static_cast<int64_t>(text_.size());
      return true;
    }
  }

  /// Digits are split, so this adds no other pieces than a space and perhaps 0.
  bool add_space() {
    text_ = "0 0";
    return texts_ > 0 && !std::exchange(has_space_, true);
  }

  DocumentReader reader_;
  int64_t max_docs_;
  bool split_long_;
  std::string document_;
  std::string_view rest_;  // of document_
  std::string text_;
  bool done_ = false, has_space_ = false;
  std::exception_ptr failure_;
  int64_t documents_ = 0, texts_ = 0, too_long_ = 0, bytes_ = 0;
};

/// Of the documents' tokens. SentencePiece does not read all of them for training.
DocumentBytes count_bytes(DocumentReader& reader, int64_t max_docs, const Tokenizer& tokenizer, const ByteCheck& check) {
  DocumentBytes bytes;
  std::string text;
  reader.rewind();
  for (int64_t i = 0; (max_docs == 0 || i < max_docs) && reader.next(text); ++i) {
    announce_if_large(reader, text.size());
    std::vector<uint16_t> stream{static_cast<uint16_t>(tokenizer.bos_id())};
    for (const int id : tokenizer.encode(text)) stream.push_back(static_cast<uint16_t>(id));
    bytes += compare_bytes(tokenizer, check, text, stream);
  }
  return bytes;
}

}  // namespace

void train_tokenizer(const TrainTokenizerOptions& options) {
  if (options.output.extension() != ".model") {
    throw Error(ExitCode::usage, format("the tokenizer's name must end in .model, not %s", options.output.c_str()));
  }
  TrainingTexts texts(options);
  std::string model;
  const bool normalizes = options.normalization == Normalization::nmt_nfkc;
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      std::unordered_map<std::string, std::string>{
          {"model_type", "bpe"},
          {"vocab_size", std::to_string(options.vocab_size)},
          {"character_coverage", "0.999"},
          {"byte_fallback", "true"},
          {"split_digits", "true"},
          {"normalization_rule_name", enum_text(options.normalization)},
          {"remove_extra_whitespaces", normalizes ? "true" : "false"},
          {"add_dummy_prefix", normalizes ? "false" : "true"},
          {"required_chars", std::string(kBlank)},
          {"pad_id", "0"},
          {"bos_id", "1"},
          {"eos_id", "2"},
          {"unk_id", "3"},
          {"hard_vocab_limit", "false"},
          {"max_sentence_length", std::to_string(kMaxTextBytes)},
          {"minloglevel", "2"},
      },
      &texts, &model);
  texts.rethrow_failure();
  if (texts.documents() == 0)
    throw Error(ExitCode::bad_input, "the inputs contain no documents",
                "give non-empty .txt files, or .jsonl files with a \"text\" in each line");
  if (texts.texts() == 0) {
    throw Error(ExitCode::bad_input,
                format("no text to train on: of %s documents %s are longer than %zu bytes, the others are empty",
                       with_commas(texts.documents()).c_str(), with_commas(texts.too_long()).c_str(), kMaxTextBytes),
                texts.too_long() > 0 ? "--split-long splits long documents" : "");
  }
  if (!status.ok()) {
    std::string reason = status.ToString();  // "Internal: file(line) [condition] sentence"
    if (const size_t at = reason.rfind("] "); at != std::string::npos) reason.erase(0, at + 2);
    throw Error(
        ExitCode::bad_input, format("SentencePiece cannot train %d pieces on this text: %s", options.vocab_size, reason.c_str()),
        "the smallest vocabulary is 4 special pieces, 256 bytes, a space and the text's characters; more pieces need more text");
  }
  const Tokenizer trained(model, options.output);
  if (trained.vocab_size() != options.vocab_size) {
    throw Error(ExitCode::bad_input,
                format("there is enough text for only %d pieces, not %d", trained.vocab_size(), options.vocab_size),
                format("provide more text, or use --vocab-size %d", trained.vocab_size()));
  }
  const ByteCheck check(trained);
  report_bytes(trained, check, count_bytes(texts.reader(), options.max_docs, trained, check), ByteCounting::rule);

  std::string pieces;  // as in SentencePiece's .vocab files: piece, tab, score
  for (int id = 0; id < trained.vocab_size(); ++id) pieces += trained.id_to_piece(id) + format("\t%g\n", trained.score(id));
  std::optional<CreatedFolder> created;
  if (options.output.has_parent_path()) created.emplace(options.output.parent_path());
  write_atomic(options.output, model);
  write_atomic(std::filesystem::path(options.output).replace_extension(".vocab"), pieces);

  if (texts.too_long() > 0) {
    log::warn(format("skipped %s of %s documents longer than %zu bytes (--split-long splits them)",
                     with_commas(texts.too_long()).c_str(), with_commas(texts.documents()).c_str(), kMaxTextBytes));
  }
  log::info(format("trained on %s of text", human_bytes(static_cast<double>(texts.bytes())).c_str()));
  log::info(format("wrote %s: %d pieces", options.output.c_str(), trained.vocab_size()));
}

}  // namespace pgolf
