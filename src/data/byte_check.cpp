#include "pgolf/data/byte_check.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "pgolf/base/format.h"
#include "pgolf/base/log.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

/// Pieces of one kind, with an example.
struct Pieces {
  int count = 0;
  std::string example;

  void add(const std::string& piece) {
    if (count++ == 0) example = printable(piece, 40);
  }
  std::string text(const char* what) const { return format("%s: %d, such as \"%s\"", what, count, example.c_str()); }
};

bool is_text(const Tokenizer& tokenizer, int id) {
  return !tokenizer.is_control(id) && !tokenizer.is_unknown(id) && !tokenizer.is_unused(id) && !tokenizer.is_byte(id);
}

bool has_byte_fallback(const Tokenizer& tokenizer) {
  for (int id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.is_byte(id)) return true;
  }
  return false;
}

/// Whether the pieces are of text in which these stand for upper case.
bool has_case_operators(const Tokenizer& tokenizer) {
  int found = 0;
  for (int id = 0; id < tokenizer.vocab_size(); ++id) {
    for (const char* piece : {"\ue001", "\ue002", "\ue003", "\ue004"}) found += tokenizer.id_to_piece(id) == piece;
  }
  return found == 4;
}

std::string find_rule_faults(const Tokenizer& tokenizer, bool byte_fallback) {
  bool lone_blank = false;
  Pieces suffixed, across;
  for (int id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!is_text(tokenizer, id)) continue;
    const std::string& piece = tokenizer.id_to_piece(id);
    if (piece == kBlank) {
      lone_blank = true;
    } else if (piece.find(kBlank, 1) != std::string::npos) {
      (piece.ends_with(kBlank) ? suffixed : across).add(piece);
    }
  }
  std::vector<std::string> faults;
  if (!lone_blank)
    faults.push_back(byte_fallback ? "no piece is a lone space, so it counts as 3 bytes" : "no piece is a lone space");
  if (suffixed.count > 0) faults.push_back(suffixed.text("pieces that end in a space"));
  if (across.count > 0) faults.push_back(across.text("pieces that go across a space"));
  if (tokenizer.dummy_blank() != DummyBlank::first && tokenizer.normalize(" a").starts_with(kBlank))
    faults.emplace_back("a space at the beginning of a document counts 0 bytes");
  if (!byte_fallback) faults.emplace_back("a space after an unknown character counts 0 bytes");
  return join(faults, "; ");
}

}  // namespace

TargetBytes& TargetBytes::operator+=(const TargetBytes& other) {
  targets += other.targets;
  unknown += other.unknown;
  rule += other.rule;
  decoded += other.decoded;
  rule_error += other.rule_error;
  return *this;
}

TargetBytes& TargetBytes::operator-=(const TargetBytes& other) {
  targets -= other.targets;
  unknown -= other.unknown;
  rule -= other.rule;
  decoded -= other.decoded;
  rule_error -= other.rule_error;
  return *this;
}

ByteCheck::ByteCheck(const Tokenizer& tokenizer)
    : tokenizer_(tokenizer),
      rule_(tokenizer, tokenizer.vocab_size(), ByteCounting::rule),
      decoded_(tokenizer, tokenizer.vocab_size(), ByteCounting::decoded),
      byte_fallback_(has_byte_fallback(tokenizer)),
      case_operators_(has_case_operators(tokenizer)) {
  rule_faults_ = find_rule_faults(tokenizer, byte_fallback_);
}

TargetBytes ByteCheck::count(std::span<const uint16_t> stream) const {
  TargetBytes bytes{.targets = static_cast<int64_t>(stream.size()) - 1};
  bytes.rule = rule_.count(stream);
  bytes.decoded = decoded_.count(stream);
  bytes.unknown = std::ranges::count(stream.subspan(1), tokenizer_.unknown_id());
  if (rule_faults_.empty() && bytes.rule == bytes.decoded) return bytes;
  for (size_t at = 1; at < stream.size(); ++at)
    bytes.rule_error += std::abs(rule_.target_bytes(stream, at) - decoded_.target_bytes(stream, at));
  return bytes;
}

TargetBytes ByteCheck::count_seam(std::span<const uint16_t> before, std::span<const uint16_t> after) const {
  // What a target counts depends on the two tokens before it and after it.
  constexpr size_t near = 4;
  const auto last = before.last(std::min(near, before.size())), first = after.first(std::min(near, after.size()));
  std::vector<uint16_t> both(last.begin(), last.end());
  both.insert(both.end(), first.begin(), first.end());
  TargetBytes bytes = count(both);
  bytes -= count(last);
  bytes -= count(first);
  return bytes;
}

std::string ByteCheck::warning(const TargetBytes& bytes, ByteCounting counting) const {
  std::vector<std::string> parts;
  const std::string tokens = with_commas(bytes.targets) + " tokens";
  if (counting == ByteCounting::rule && !rule_faults_.empty()) {
    std::string here = "it is right for these " + tokens + ", but not for all";
    if (bytes.rule_error > 0) {
      here = format("it counts %s bytes for %s that have %s, wrong by %s token by token; --byte-count decoded counts %s",
                    with_commas(bytes.rule).c_str(), tokens.c_str(), with_commas(bytes.decoded).c_str(),
                    with_commas(bytes.rule_error).c_str(), with_commas(bytes.decoded).c_str());
    }
    parts.push_back(
        format("the rule that counts bytes does not fit this tokenizer (%s); %s", rule_faults_.c_str(), here.c_str()));
  }
  if (!byte_fallback_) {
    parts.push_back(format("characters without a piece count 0 bytes, since there is no byte fallback: %s of %s are unknown",
                           with_commas(bytes.unknown).c_str(), tokens.c_str()));
  }
  if (case_operators_) parts.emplace_back("U+E001 to U+E004, CaseOps' operators, count as text of 3 bytes each");
  return parts.empty() ? "" : tokenizer_.path().string() + ": " + join(parts, "; ");
}

std::string missing_bos_warning(const std::string& tokens, int bos_id, const std::string& owner) {
  const std::string fault = bos_id < 0 ? format("%s has no BOS, which begins each document", owner.c_str())
                                       : format("none of %s is %d, the BOS of %s", tokens.c_str(), bos_id, owner.c_str());
  return fault + ": documents cannot be told apart, and the tokens may be of another tokenizer";
}

void warn_of_byte_counts(const Tokenizer& tokenizer, ByteCounting counting, std::span<const uint16_t> stream) {
  if (std::ranges::find(stream, tokenizer.bos_id()) == stream.end()) {
    const std::string tokens = format("the %s validation tokens", with_commas(static_cast<int64_t>(stream.size())).c_str());
    log::warn(missing_bos_warning(tokens, tokenizer.bos_id(), tokenizer.path().string()));
  }
  const ByteCheck check(tokenizer);
  if (check.warning({}, counting).empty()) return;
  log::warn(check.warning(check.count(stream), counting));
}

}  // namespace pgolf
