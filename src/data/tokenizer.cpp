#include "pgolf/data/tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/foreign_kind.h"
#include "pgolf/base/format.h"
#include "pgolf/base/hash.h"
#include "pgolf/base/text.h"
#include "pgolf/data/sentencepiece_model.h"

namespace pgolf {

namespace {

constexpr const char* kHint =
    "use a SentencePiece .model file: scripts/download_fineweb.sh downloads one, prepare_data tokenizer trains one";

[[noreturn]] void refuse(const std::filesystem::path& path, BytesView file) {
  if (describe_foreign(file) == kSentencePieceKind)
    throw Error(ExitCode::bad_input, format("%s is %s, but it is truncated or damaged", path.c_str(), kSentencePieceKind), kHint);
  throw Error(ExitCode::bad_input, format("%s is not a SentencePiece model%s", path.c_str(), foreign_clause(file).c_str()),
              kHint);
}

/// SentencePiece puts these pieces into a trie that cannot hold a NUL, and ends the process.
void require_no_nul(std::string_view serialized, const std::filesystem::path& origin) {
  SentencePieceModel model;
  try {
    model = read_sentencepiece(serialized, origin);
  } catch (const Error&) {
    refuse(origin, as_bytes(serialized));
  }
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const auto& piece = model.pieces[id];
    const bool in_trie = model.kind == SentencePieceModel::Kind::unigram || piece.type == SentencePieceModel::Type::user_defined;
    if (in_trie && piece.text.find('\0') != std::string::npos)
      throw Error(ExitCode::bad_input, format("%s: piece %zu contains a NUL byte", origin.c_str(), id), kHint);
  }
}

std::string read_model(const std::filesystem::path& path) {
  constexpr size_t kLargestModel = size_t{64} << 20;
  std::error_code error;
  if (!std::filesystem::exists(path, error) && (!error || error == std::errc::no_such_file_or_directory) &&
      irregular_kind(path).empty())
    throw Error(ExitCode::bad_input, format("tokenizer %s does not exist", path.c_str()), kHint);
  const MappedFile file(path);
  if (file.bytes().size() > kLargestModel) {
    const std::string kind = describe_foreign(file.bytes());
    if (!kind.empty() && kind != kSentencePieceKind) refuse(path, file.bytes());
    throw Error(ExitCode::bad_input,
                format("%s is no tokenizer: it has %zu bytes, more than %zu", path.c_str(), file.bytes().size(), kLargestModel),
                kHint);
  }
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace

std::string with_spaces(std::string piece) {
  for (size_t at = 0; (at = piece.find(kBlank, at)) != std::string::npos; ++at) piece.replace(at, kBlank.size(), " ");
  return piece;
}

struct Tokenizer::Model {
  sentencepiece::SentencePieceProcessor processor;
};

Tokenizer::Tokenizer(std::string_view serialized, const std::filesystem::path& origin)
    : path_(origin), model_(std::make_unique<Model>()) {
  require_no_nul(serialized, origin);
  if (!model_->processor.LoadFromSerializedProto({serialized.data(), serialized.size()}).ok() || vocab_size() == 0) {
    refuse(origin, as_bytes(serialized));
  }
}

Tokenizer::Tokenizer(const std::filesystem::path& model_path) : Tokenizer(read_model(model_path), model_path) {}

Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

int Tokenizer::vocab_size() const {
  return model_->processor.GetPieceSize();
}
int Tokenizer::bos_id() const {
  return model_->processor.bos_id();
}
int Tokenizer::eos_id() const {
  return model_->processor.eos_id();
}

int Tokenizer::pad_id() const {
  return model_->processor.pad_id();
}
int Tokenizer::unknown_id() const {
  return model_->processor.unk_id();
}

int Tokenizer::required_bos_id() const {
  if (bos_id() >= 0) return bos_id();
  throw Error(ExitCode::bad_input, format("%s has no BOS piece, with which every document begins", path_.c_str()), kHint);
}

std::vector<int> Tokenizer::document_ends() const {
  std::vector<int> ids{bos_id(), eos_id()};
  std::erase_if(ids, [](int id) { return id < 0; });
  return ids;
}

std::vector<int> Tokenizer::encode(std::string_view text) const {
  std::vector<int> ids;
  const auto status = model_->processor.Encode({text.data(), text.size()}, &ids);
  if (!status.ok()) throw Error(ExitCode::bad_input, format("%s: encoding failed: %s", path_.c_str(), status.ToString().c_str()));
  return ids;
}

std::string Tokenizer::decode(const std::vector<int>& ids) const {
  for (const int id : ids) {
    if (id < 0 || id >= vocab_size()) {
      throw Error(ExitCode::bad_input,
                  format("id %d is outside the vocabulary of %d tokens of %s", id, vocab_size(), path_.c_str()));
    }
  }
  std::string text;
  const auto status = model_->processor.Decode(ids, &text);
  if (!status.ok()) throw Error(ExitCode::bad_input, format("%s: decoding failed: %s", path_.c_str(), status.ToString().c_str()));
  return text;
}

std::vector<std::string> Tokenizer::spellings(std::string_view text) const {
  std::vector<std::string> pieces;
  const auto status = model_->processor.Encode({text.data(), text.size()}, &pieces);
  if (!status.ok()) throw Error(ExitCode::bad_input, format("%s: encoding failed: %s", path_.c_str(), status.ToString().c_str()));
  return pieces;
}

std::string Tokenizer::normalize(std::string_view text) const {
  const auto ids = encode(text);
  const auto pieces = spellings(text);
  std::string all;
  for (size_t i = 0; i < ids.size(); ++i) {
    all += is_byte(ids[i]) ? std::string(1, static_cast<char>(byte_of(ids[i]))) : pieces[i];
  }
  return all;
}

int64_t Tokenizer::unknown_bytes(std::string_view text) const {
  const auto ids = encode(text);
  if (std::none_of(ids.begin(), ids.end(), [this](int id) { return is_unknown(id); })) return 0;
  const auto pieces = spellings(text);
  int64_t bytes = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    if (is_unknown(ids[i])) bytes += static_cast<int64_t>(with_spaces(pieces[i]).size());
  }
  if (is_unknown(ids.front()) && pieces.front().starts_with(kBlank) && dummy_blank() == DummyBlank::first) --bytes;
  return bytes;
}

DummyBlank Tokenizer::dummy_blank() const {
  const std::string text = normalize("a");
  if (text.starts_with(kBlank)) return DummyBlank::first;
  return text.ends_with(kBlank) ? DummyBlank::last : DummyBlank::none;
}

const std::string& Tokenizer::id_to_piece(int id) const {
  return model_->processor.IdToPiece(id);
}
float Tokenizer::score(int id) const {
  return model_->processor.GetScore(id);
}
bool Tokenizer::is_byte(int id) const {
  return model_->processor.IsByte(id);
}
unsigned char Tokenizer::byte_of(int id) const {
  return static_cast<unsigned char>(std::stoi(id_to_piece(id).substr(3, 2), nullptr, 16));
}
bool Tokenizer::is_control(int id) const {
  return model_->processor.IsControl(id);
}
bool Tokenizer::is_unknown(int id) const {
  return model_->processor.IsUnknown(id);
}
bool Tokenizer::is_unused(int id) const {
  return model_->processor.IsUnused(id);
}

SentencePieceModel Tokenizer::contents() const {
  return read_sentencepiece(model_->processor.serialized_model_proto(), path_.string());
}

void Tokenizer::require_vocab_size(int expected) const {
  if (vocab_size() == expected) return;
  throw Error(ExitCode::usage, format("VOCAB_SIZE=%d, but %s has %d tokens", expected, path_.c_str(), vocab_size()),
              format("set VOCAB_SIZE=%d, or set TOKENIZER_PATH to the tokenizer of the shards", vocab_size()));
}

std::string Tokenizer::fingerprint() const {
  std::string all;
  for (int id = 0; id < vocab_size(); ++id) {
    all += is_control(id) ? 'c' : is_unknown(id) ? 'u' : is_unused(id) ? 'x' : is_byte(id) ? 'b' : 't';
    all += id_to_piece(id) + '\n';
  }
  return sha256_hex(as_bytes(all)).substr(0, 16);
}

void Tokenizer::require_fingerprint(const std::string& expected, const std::string& owner) const {
  if (expected.empty() || expected == fingerprint()) return;
  throw Error(ExitCode::usage,
              format("%s has other pieces than the tokenizer of %s (fingerprints %s and %s)", path_.c_str(), owner.c_str(),
                     fingerprint().c_str(), printable(expected, 40).c_str()),
              "set TOKENIZER_PATH to the tokenizer of " + owner);
}

}  // namespace pgolf
