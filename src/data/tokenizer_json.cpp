#include "pgolf/data/tokenizer_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/hash.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

using nlohmann::json;
using Type = SentencePieceModel::Type;

const std::string kBlankText(kBlank);

bool is_text(const SentencePieceModel::Piece& piece) {
  return piece.type == Type::normal || piece.type == Type::user_defined;
}

void require_expressible(const SentencePieceModel& model, const std::string& origin) {
  const auto refuse = [&](const char* what) {
    throw Error(ExitCode::bad_input, format("%s: a tokenizer.json cannot express %s", origin.c_str(), what));
  };
  if (model.kind != SentencePieceModel::Kind::bpe && model.kind != SentencePieceModel::Kind::unigram)
    refuse("a model of words or characters");
  if (model.blank_at_end) refuse("spaces at the end of words (treat_whitespace_as_suffix)");
  if (!model.escape_spaces) refuse("spaces that stay spaces (escape_whitespaces=false)");
  if (std::any_of(model.pieces.begin(), model.pieces.end(),
                  [](const auto& piece) { return valid_utf8_bytes(piece.text) < piece.text.size(); }))
    refuse("pieces that are not UTF-8");
  if (std::any_of(model.pieces.begin(), model.pieces.end(), [](const auto& piece) { return piece.type == Type::unused; }))
    refuse("unused pieces");
}

json replace(const char* kind, const std::string& pattern, const std::string& content) {
  return {{"type", "Replace"}, {"pattern", {{kind, pattern}}}, {"content", content}};
}

json normalizer(const SentencePieceModel& model) {
  json steps = json::array();
  if (!model.charsmap.empty()) {
    steps.push_back({{"type", "Precompiled"}, {"precompiled_charsmap", base64(as_bytes(model.charsmap))}});
  }
  if (model.remove_extra_spaces) {
    steps.push_back(replace("Regex", "\\A +| +\\z", ""));
    steps.push_back(replace("Regex", " {2,}", " "));
  }
  if (model.dummy_blank) steps.push_back({{"type", "Prepend"}, {"prepend", kBlankText}});
  steps.push_back(replace("String", " ", kBlankText));
  return {{"type", "Sequence"}, {"normalizers", steps}};
}

json decoder(const SentencePieceModel& model) {
  json steps = json::array();
  steps.push_back(replace("String", kBlankText, " "));
  if (model.byte_fallback) steps.push_back({{"type", "ByteFallback"}});
  steps.push_back({{"type", "Fuse"}});
  if (model.dummy_blank) steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", steps}};
}

/// All ways to put a piece together from two others, best piece first: SentencePiece merges the pair with the best score, and of
/// several that one furthest to the left.
json merges(const SentencePieceModel& model) {
  std::unordered_map<std::string, size_t> ids;
  std::vector<size_t> by_score;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    if (!is_text(model.pieces[id])) continue;
    ids.emplace(model.pieces[id].text, id);
    by_score.push_back(id);
  }
  std::stable_sort(by_score.begin(), by_score.end(),
                   [&](size_t a, size_t b) { return model.pieces[a].score > model.pieces[b].score; });
  json pairs = json::array();
  for (const size_t id : by_score) {
    const std::string& text = model.pieces[id].text;
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const std::string left = text.substr(0, cut), right = text.substr(cut);
      if (ids.contains(left) && ids.contains(right)) pairs.push_back({left, right});
    }
  }
  return pairs;
}

json bpe(const SentencePieceModel& model, const std::string& unknown) {
  json vocabulary = json::object();
  for (size_t id = 0; id < model.pieces.size(); ++id) vocabulary[model.pieces[id].text] = id;
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", unknown},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", true},
          {"byte_fallback", model.byte_fallback},
          {"vocab", vocabulary},
          {"merges", merges(model)}};
}

json unigram(const SentencePieceModel& model, int unknown) {
  // Not to be found in a text: SentencePiece does not look for control and byte pieces there.
  constexpr double never = -1e6;
  json vocabulary = json::array();
  for (const auto& piece : model.pieces) vocabulary.push_back({piece.text, is_text(piece) ? double{piece.score} : never});
  return {{"type", "Unigram"}, {"unk_id", unknown}, {"vocab", vocabulary}, {"byte_fallback", model.byte_fallback}};
}

json added_tokens(const SentencePieceModel& model) {
  json tokens = json::array();
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const auto& piece = model.pieces[id];
    const bool special = piece.type == Type::control || piece.type == Type::unknown;
    if (!special && piece.type != Type::user_defined) continue;
    tokens.push_back({{"id", id},
                      {"content", piece.text},
                      {"single_word", false},
                      {"lstrip", false},
                      {"rstrip", false},
                      {"normalized", !special},
                      {"special", special}});
  }
  return tokens;
}

json post_processor(const Tokenizer& tokenizer) {
  if (tokenizer.bos_id() < 0) return nullptr;
  const std::string& bos = tokenizer.id_to_piece(tokenizer.bos_id());
  const auto special = [&](int type) { return json{{"SpecialToken", {{"id", bos}, {"type_id", type}}}}; };
  const auto text = [](const char* which, int type) { return json{{"Sequence", {{"id", which}, {"type_id", type}}}}; };
  return {{"type", "TemplateProcessing"},
          {"single", {special(0), text("A", 0)}},
          {"pair", {special(0), text("A", 0), special(1), text("B", 1)}},
          {"special_tokens", {{bos, {{"id", bos}, {"ids", {tokenizer.bos_id()}}, {"tokens", {bos}}}}}}};
}

}  // namespace

std::string tokenizer_json(const Tokenizer& tokenizer) {
  const std::string origin = tokenizer.path().string();
  const SentencePieceModel model = tokenizer.contents();
  require_expressible(model, origin);
  const int unknown = tokenizer.unknown_id();
  const json content{{"version", "1.0"},
                     {"truncation", nullptr},
                     {"padding", nullptr},
                     {"added_tokens", added_tokens(model)},
                     {"normalizer", normalizer(model)},
                     {"pre_tokenizer", nullptr},
                     {"post_processor", post_processor(tokenizer)},
                     {"decoder", decoder(model)},
                     {"model", model.kind == SentencePieceModel::Kind::bpe ? bpe(model, tokenizer.id_to_piece(unknown))
                                                                           : unigram(model, unknown)}};
  return content.dump(1) + "\n";
}

std::string tokenizer_config_json(const Tokenizer& tokenizer, int context_length) {
  json content{{"tokenizer_class", "PreTrainedTokenizerFast"},
               {"model_input_names", {"input_ids", "attention_mask"}},
               {"model_max_length", context_length},
               {"clean_up_tokenization_spaces", false},
               {"split_special_tokens", true}};
  const auto add = [&](const char* name, int id) {
    if (id >= 0) content[name] = tokenizer.id_to_piece(id);
  };
  add("bos_token", tokenizer.bos_id());
  add("eos_token", tokenizer.eos_id());
  add("unk_token", tokenizer.unknown_id());
  add("pad_token", tokenizer.pad_id());
  return content.dump(1) + "\n";
}

}  // namespace pgolf
