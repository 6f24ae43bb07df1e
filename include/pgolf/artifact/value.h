// The contents of a PyTorch file after unpickling: a plain tree of None, bool, int, float, str, list, tuple, dict and tensors.
// Of anything else only its name is kept, so nothing here can run code.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "pgolf/artifact/raw_tensor.h"

namespace pgolf {

/// A string with identity: Python writes a string object once and refers back to it afterwards, and writes two equal
/// but distinct objects twice. Copies of a Text are the same object; two calls of text() are not.
using Text = std::shared_ptr<const std::string>;
Text text(std::string_view content);

class Value;
struct DictEntry;

struct List {
  std::vector<Value> items;
};

struct Tuple {
  std::vector<Value> items;
};

/// Stands for what is not read: "argparse.Namespace" for an object of that class, the class itself, or what a call of it returns.
/// An error for whoever needs the value.
struct Opaque {
  Text what;
};

/// dict or collections.OrderedDict with string keys, in insertion order.
class Dict {
 public:
  explicit Dict(bool ordered = false);
  Dict(const Dict&);
  Dict(Dict&&) noexcept;
  Dict& operator=(const Dict&);
  Dict& operator=(Dict&&) noexcept;
  ~Dict();

  bool ordered() const { return ordered_; }  ///< an OrderedDict
  const std::vector<DictEntry>& entries() const { return entries_; }
  size_t size() const;

  /// Null if there is no such key.
  const Value* find(std::string_view key) const;
  /// As in Python: a new key goes to the end, a known one keeps its place.
  void set(Text key, Value value);

  /// What Python keeps in the __dict__ of an OrderedDict object; a state dict's is "_metadata". Empty for a plain dict.
  const std::vector<DictEntry>& attributes() const { return attributes_; }
  const Value* find_attribute(std::string_view name) const;
  void add_attribute(Text name, Value value);

 private:
  bool ordered_;
  std::vector<DictEntry> entries_;
  std::unordered_map<std::string_view, size_t> index_;  // views into the keys' strings, which never move
  std::vector<DictEntry> attributes_;
};

class Value {
 public:
  using Variant = std::variant<std::monostate, bool, int64_t, double, Text, List, Tuple, Dict, RawTensor, Opaque>;

  Value() = default;  ///< None
  Value(Variant content) : content_(std::move(content)) {}
  Value(bool value) : content_(value) {}
  Value(int64_t value) : content_(value) {}
  Value(int value) : content_(int64_t{value}) {}
  Value(double value) : content_(value) {}
  Value(Text value) : content_(std::move(value)) {}
  Value(List value) : content_(std::move(value)) {}
  Value(Tuple value) : content_(std::move(value)) {}
  Value(Dict value) : content_(std::move(value)) {}
  Value(RawTensor value) : content_(std::move(value)) {}
  Value(Opaque value) : content_(std::move(value)) {}
  Value(const char*) = delete;  // would become a bool; write text("...")

  const Variant& content() const { return content_; }
  Variant& content() { return content_; }

  template <class T>
  const T* get_if() const {
    return std::get_if<T>(&content_);
  }

  /// The content as that type, or Error(bad_input) "WHERE has type str; expected dict". where names file and location.
  const Dict& as_dict(std::string_view where) const;
  const std::string& as_text(std::string_view where) const;
  const RawTensor& as_tensor(std::string_view where) const;
  int64_t as_int(std::string_view where) const;

  std::string type_name() const;  ///< as in Python: "None", "dict", "tensor", "argparse.Namespace", ...

 private:
  Variant content_;
};

struct DictEntry {
  Text key;
  Value value;
};

}  // namespace pgolf
