#include "pgolf/artifact/value.h"

#include <algorithm>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

const Value* find_entry(const std::vector<DictEntry>& entries, std::string_view key) {
  const auto found = std::find_if(entries.begin(), entries.end(), [&](const DictEntry& e) { return *e.key == key; });
  return found == entries.end() ? nullptr : &found->value;
}

template <class T>
const T& expect(const Value& value, std::string_view where, const char* type) {
  const T* content = value.get_if<T>();
  if (content == nullptr) {
    throw Error(ExitCode::bad_input,
                format("%s has type %s; expected %s", printable(where).c_str(), printable(value.type_name()).c_str(), type));
  }
  return *content;
}

}  // namespace

Text text(std::string_view content) {
  return std::make_shared<const std::string>(content);
}

Dict::Dict(bool ordered) : ordered_(ordered) {}
Dict::Dict(const Dict&) = default;
Dict::Dict(Dict&&) noexcept = default;
Dict& Dict::operator=(const Dict&) = default;
Dict& Dict::operator=(Dict&&) noexcept = default;
Dict::~Dict() = default;

size_t Dict::size() const {
  return entries_.size();
}

const Value* Dict::find(std::string_view key) const {
  const auto found = index_.find(key);
  return found == index_.end() ? nullptr : &entries_[found->second].value;
}

void Dict::set(Text key, Value value) {
  const auto [place, is_new] = index_.try_emplace(std::string_view(*key), entries_.size());
  if (is_new) {
    entries_.push_back({std::move(key), std::move(value)});
  } else {
    entries_[place->second].value = std::move(value);
  }
}

const Value* Dict::find_attribute(std::string_view name) const {
  return find_entry(attributes_, name);
}

void Dict::add_attribute(Text name, Value value) {
  attributes_.push_back({std::move(name), std::move(value)});
}

std::string Value::type_name() const {
  if (const Opaque* opaque = get_if<Opaque>()) return *opaque->what;
  static const char* const names[] = {"None", "bool", "int", "float", "str", "list", "tuple", "dict", "tensor"};
  static_assert(std::size(names) + 1 == std::variant_size_v<Variant>);
  return names[content_.index()];
}

const Dict& Value::as_dict(std::string_view where) const {
  return expect<Dict>(*this, where, "dict");
}
const std::string& Value::as_text(std::string_view where) const {
  return *expect<Text>(*this, where, "str");
}
const RawTensor& Value::as_tensor(std::string_view where) const {
  return expect<RawTensor>(*this, where, "tensor");
}
int64_t Value::as_int(std::string_view where) const {
  return expect<int64_t>(*this, where, "int");
}

}  // namespace pgolf
