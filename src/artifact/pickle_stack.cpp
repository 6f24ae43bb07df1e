#include "pickle_stack.h"

#include <algorithm>
#include <utility>

#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace {

constexpr size_t max_objects = 1'000'000;
constexpr size_t max_depth = 64;
constexpr size_t max_key_bytes = 1000;  // tensor names are built from them

/// A class, a storage and a tuple of these are of no use within a container.
Value to_value(Item&& item) {
  if (Value* value = item.get_if<Value>()) return std::move(*value);
  return opaque(item.get_if<Storage>() != nullptr ? "storage" : item.get_if<MixedTuple>() != nullptr ? "tuple" : "class");
}

}  // namespace

Opaque opaque(std::string_view what) {
  return {text(what)};
}

void PickleStack::count_object() {
  if (++objects_ > max_objects) input_.fail(format("has more than %zu objects", max_objects));
}

void PickleStack::push(Item item) {
  count_object();
  if (item.depth > max_depth) input_.fail(format("is nested more than %zu levels deep", max_depth));
  stack_.push_back(std::move(item));
}

void PickleStack::push_tuple(Items items) {
  size_t depth = 0;
  bool plain = true;
  for (Item& item : items) {
    depth = std::max(depth, item.depth);
    plain = plain && item.get_if<Value>() != nullptr;
  }
  if (!plain) return push({MixedTuple{std::move(items)}, depth + 1});
  Tuple tuple;
  for (Item& item : items) tuple.items.push_back(to_value(std::move(item)));
  push_value(std::move(tuple), depth + 1);
}

void PickleStack::push_mark() {
  count_object();
  marks_.push_back(stack_.size());
}

Item& PickleStack::top() {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) input_.fail("uses a missing object");
  return stack_.back();
}

Item PickleStack::pop() {
  Item item = std::move(top());
  stack_.pop_back();
  return item;
}

Items PickleStack::pop_items(size_t count) {
  Items items(count);
  while (count-- > 0) items[count] = pop();
  return items;
}

Items PickleStack::pop_to_mark() {
  if (marks_.empty()) input_.fail("closes a group that was never opened");
  const auto first = stack_.begin() + static_cast<ptrdiff_t>(marks_.back());
  Items items(std::make_move_iterator(first), std::make_move_iterator(stack_.end()));
  stack_.erase(first, stack_.end());
  marks_.pop_back();
  return items;
}

Value PickleStack::pop_result() {
  if (stack_.size() != 1 || !marks_.empty()) input_.fail("ends with incomplete objects");
  return to_value(pop());
}

void PickleStack::append(Items items) {
  if (top().value_if<Opaque>() != nullptr) return;
  List* list = top().value_if<List>();
  if (list == nullptr) input_.fail("appends to something that is not a list");
  for (Item& item : items) {
    deepen(item.depth);
    list->items.push_back(to_value(std::move(item)));
  }
}

void PickleStack::set_items(Items items) {
  if (items.size() % 2 != 0) input_.fail("has a dict key without a value");
  for (size_t i = 0; i < items.size() && top().value_if<Opaque>() == nullptr; i += 2) set_item(items[i], items[i + 1]);
}

void PickleStack::set_item(Item& key_item, Item& item) {
  Dict* dict = top().value_if<Dict>();
  if (dict == nullptr) input_.fail("sets an item of something that is not a dict");
  const int64_t* number = key_item.value_if<int64_t>();
  const Text* string = key_item.value_if<Text>();
  if (number == nullptr && string == nullptr) {
    top() = {opaque("dict with keys that are neither strings nor whole numbers")};
    return;
  }
  const Text key = string != nullptr ? *string : text(std::to_string(*number));
  if (key->size() > max_key_bytes) input_.fail(format("has a dict key of %zu bytes", key->size()));
  if (dict->find(*key) != nullptr) input_.fail(format("has a duplicate dict key \"%s\"", printable(*key).c_str()));
  deepen(item.depth);
  dict->set(key, to_value(std::move(item)));
}

void PickleStack::set_attributes(Item state) {
  if (top().value_if<Opaque>() != nullptr) return;
  Dict* attributes = state.value_if<Dict>();
  Dict* dict = top().value_if<Dict>();
  if (attributes == nullptr || dict == nullptr || !dict->ordered() || !dict->attributes().empty()) {
    input_.fail("sets the state of something that is not an OrderedDict");
  }
  deepen(state.depth);
  for (const DictEntry& entry : attributes->entries()) dict->add_attribute(entry.key, entry.value);
}

void PickleStack::require_opaque(const char* otherwise) {
  if (top().value_if<Opaque>() == nullptr) input_.fail(otherwise);
}

/// Updates the top item's depth for a new child with child_depth levels.
void PickleStack::deepen(size_t child_depth) {
  Item& item = top();
  item.depth = std::max(item.depth, child_depth + 1);
  if (item.depth > max_depth) input_.fail(format("is nested more than %zu levels deep", max_depth));
}

void PickleStack::memoize(uint32_t index) {
  count_object();
  Item& item = top();
  memo_.insert_or_assign(index, item.depth == 0 ? std::optional<Item>(item) : std::nullopt);
}

void PickleStack::recall(uint32_t index) {
  const auto found = memo_.find(index);
  if (found == memo_.end()) input_.fail(format("refers to missing object %u", index));
  if (!found->second) return push_value(opaque("another entry's container"));
  if (const RawTensor* tensor = found->second->value_if<RawTensor>()) tensors_.count(tensor->bytes->size());
  push(*found->second);
}

}  // namespace pgolf
