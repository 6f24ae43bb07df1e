// What an unpickler keeps: a stack with marks, and a memo of objects to use again.
#pragma once

#include <optional>
#include <unordered_map>

#include "pickle_input.h"
#include "pickle_tensors.h"

namespace pgolf {

/// The functions that a pickle may call.
enum class Callable { ordered_dict, rebuild_tensor, rebuild_parameter };

struct Item;
using Items = std::vector<Item>;

/// A tuple that is not only plain values: the arguments of a call or a persistent id.
struct MixedTuple {
  Items items;
};

struct Item {
  std::variant<Value, Callable, DType, Storage, MixedTuple> content;  // DType: the class of storages of that type
  size_t depth = 0;                                                   // levels of nested containers

  template <class T>
  T* get_if() {
    return std::get_if<T>(&content);
  }
  /// The T within a Value.
  template <class T>
  T* value_if() {
    Value* value = get_if<Value>();
    return value != nullptr ? std::get_if<T>(&value->content()) : nullptr;
  }
};

Opaque opaque(std::string_view what);

/// Fails when there are too many objects or levels of nesting, and when an opcode does not find what it needs. What is put into
/// an Opaque is dropped.
class PickleStack {
 public:
  /// Both must outlive the object.
  PickleStack(const PickleInput& input, PickleTensors& tensors) : input_(input), tensors_(tensors) {}

  void push(Item item);
  void push_value(Value value, size_t depth = 0) { push({std::move(value), depth}); }
  void push_tuple(Items items);
  void push_mark();

  /// The top item; items below the last mark are not accessible.
  Item& top();
  Item pop();
  Items pop_items(size_t count);
  Items pop_to_mark();
  /// The only item that is left, at the end.
  Value pop_result();

  /// All of these change the top item.
  void append(Items items);
  void set_items(Items keys_and_values);
  void set_attributes(Item state);
  void require_opaque(const char* otherwise);

  void memoize(uint32_t index);
  void memoize_next() { memoize(static_cast<uint32_t>(memo_.size())); }
  void recall(uint32_t index);

 private:
  void count_object();
  void deepen(size_t child_depth);
  void set_item(Item& key_item, Item& item);

  const PickleInput& input_;
  PickleTensors& tensors_;
  size_t objects_ = 0;
  Items stack_;
  std::vector<size_t> marks_;  // stack heights
  // Containers are not memoized, so that no object is shared or contains itself. Python still writes a memo entry for each, so
  // their indices are recorded.
  std::unordered_map<uint32_t, std::optional<Item>> memo_;
};

}  // namespace pgolf
