#include <algorithm>
#include <cstring>
#include <optional>
#include <unordered_map>
#include <utility>

#include "pgolf/artifact/pickle.h"
#include "pgolf/base/error.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"
#include "pickle_format.h"

namespace pgolf {
namespace {

constexpr size_t max_pickle_bytes = 16 << 20;
constexpr size_t max_objects = 1'000'000;
constexpr size_t max_depth = 64;
constexpr size_t max_dimensions = 16;
constexpr size_t max_global_chars = 200;
// Views must be copied. A few views per byte are plausible, thousands are an attack.
constexpr size_t max_copies_of_storage = 4;
constexpr size_t max_key_bytes = 1000;  // tensor names are built from them

struct Storage {
  DType dtype;
  std::shared_ptr<const Bytes> bytes;

  int64_t numel() const { return static_cast<int64_t>(bytes->size() / dtype_size(dtype)); }
};

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

class Unpickler {
 public:
  Unpickler(BytesView pickle, const std::string& name, const StorageSource& source)
      : pickle_(pickle), name_(name), source_(source) {}

  Value run() {
    if (pickle_.size() > max_pickle_bytes) fail(format("is larger than %zu bytes", max_pickle_bytes));
    do {
      op_start_ = position_;
    } while (step(static_cast<Op>(read<uint8_t>())));
    if (position_ != pickle_.size()) fail("continues after its end mark");
    if (stack_.size() != 1 || !marks_.empty()) fail("ends with incomplete objects");
    return pop_value();
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ExitCode::bad_input, format("%s: data.pkl at byte %zu: %s", name_.c_str(), op_start_, what.c_str()),
                "only torch.save files of dicts, lists, strings, numbers and dense tensors are supported");
  }

  BytesView take(size_t size) {
    if (pickle_.size() - position_ < size) fail("is truncated");
    position_ += size;
    return pickle_.subspan(position_ - size, size);
  }
  template <class T>
  T read() {
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  std::string_view take_text(size_t size) {
    const BytesView bytes = take(size);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  void count_object() {
    if (++objects_ > max_objects) fail(format("has more than %zu objects", max_objects));
  }
  void push(Item item) {
    count_object();
    if (item.depth > max_depth) fail(format("is nested more than %zu levels deep", max_depth));
    stack_.push_back(std::move(item));
  }
  void push_value(Value value, size_t depth = 0) { push({std::move(value), depth}); }

  /// The top item; items below the last mark are not accessible.
  Item& top() {
    if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) fail("uses a missing object");
    return stack_.back();
  }
  Item pop() {
    Item item = std::move(top());
    stack_.pop_back();
    return item;
  }
  Value to_value(Item&& item) const {
    if (Value* value = item.get_if<Value>()) return std::move(*value);
    fail("has a class, a storage or a tuple of these in place of a plain value");
  }
  Value pop_value() { return to_value(pop()); }

  Items pop_to_mark() {
    if (marks_.empty()) fail("closes a group that was never opened");
    const auto first = stack_.begin() + static_cast<ptrdiff_t>(marks_.back());
    Items items(std::make_move_iterator(first), std::make_move_iterator(stack_.end()));
    stack_.erase(first, stack_.end());
    marks_.pop_back();
    return items;
  }
  Items pop_items(size_t count) {
    Items items(count);
    while (count-- > 0) items[count] = pop();
    return items;
  }

  void push_tuple(Items items) {
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

  void append(Items items) {
    List* list = top().value_if<List>();
    if (list == nullptr) fail("appends to something that is not a list");
    for (Item& item : items) {
      deepen(item.depth);
      list->items.push_back(to_value(std::move(item)));
    }
  }
  void set_items(Items items) {
    Dict* dict = top().value_if<Dict>();
    if (dict == nullptr) fail("sets an item of something that is not a dict");
    if (items.size() % 2 != 0) fail("has a dict key without a value");
    for (size_t i = 0; i < items.size(); i += 2) {
      const Text* key = items[i].value_if<Text>();
      if (key == nullptr) fail("has a dict key that is not a string");
      if ((*key)->size() > max_key_bytes) fail(format("has a dict key of %zu bytes", (*key)->size()));
      if (dict->find(**key) != nullptr) fail(format("has a duplicate dict key \"%s\"", printable(**key).c_str()));
      deepen(items[i + 1].depth);
      dict->set(*key, to_value(std::move(items[i + 1])));
    }
  }
  /// Updates the top item's depth for a new child with child_depth levels.
  void deepen(size_t child_depth) {
    Item& item = top();
    item.depth = std::max(item.depth, child_depth + 1);
    if (item.depth > max_depth) fail(format("is nested more than %zu levels deep", max_depth));
  }

  /// Containers are not memoized, so that no object is shared or contains itself. Python still writes a memo entry for each,
  /// so their indices are recorded.
  void memoize(uint32_t index) {
    count_object();
    Item& item = top();
    memo_.insert_or_assign(index, item.depth == 0 ? std::optional<Item>(item) : std::nullopt);
  }
  void recall(uint32_t index) {
    const auto found = memo_.find(index);
    if (found == memo_.end()) fail(format("refers to missing object %u", index));
    if (!found->second) fail("contains the same container twice, or within itself");
    if (const RawTensor* tensor = found->second->value_if<RawTensor>()) count_tensor(tensor->bytes->size());
    push(*found->second);
  }

  void push_global() {
    std::string name = read_line() + " ";
    name += read_line();
    if (name == ordered_dict_global) return push({Callable::ordered_dict});
    if (name == rebuild_tensor_global) return push({Callable::rebuild_tensor});
    if (name == rebuild_parameter_global) return push({Callable::rebuild_parameter});
    for (const StorageGlobal& global : storage_globals) {
      if (name == global.name) return push({global.dtype});
    }
    fail(format("needs \"%s\", which is not an accepted name", printable(name).c_str()));
  }
  std::string read_line() {
    const std::string_view rest(reinterpret_cast<const char*>(pickle_.data()) + position_, pickle_.size() - position_);
    const size_t length = rest.substr(0, max_global_chars + 1).find('\n');
    if (length == std::string_view::npos) fail("has a name that is too long or truncated");
    position_ += length + 1;
    return std::string(rest.substr(0, length));
  }

  void call() {
    Item arguments = pop();
    Item function = pop();
    const Callable* callable = function.get_if<Callable>();
    if (callable == nullptr) fail("calls something that is not a function");
    switch (*callable) {
      case Callable::ordered_dict: {
        const Tuple* none = arguments.value_if<Tuple>();
        if (none == nullptr || !none->items.empty()) fail("makes an OrderedDict with arguments");
        return push_value(Dict(/*ordered=*/true), 1);
      }
      case Callable::rebuild_tensor: {
        MixedTuple* tuple = arguments.get_if<MixedTuple>();
        if (tuple == nullptr || tuple->items.size() != 6) fail("rebuilds a tensor without its six arguments");
        return push_value(rebuild_tensor(tuple->items));
      }
      case Callable::rebuild_parameter: {
        const Tuple* tuple = arguments.value_if<Tuple>();
        const RawTensor* tensor = tuple != nullptr && tuple->items.size() == 3 ? tuple->items[0].get_if<RawTensor>() : nullptr;
        if (tensor == nullptr) fail("rebuilds a parameter without a tensor");
        return push_value(*tensor);
      }
    }
  }

  void build() {
    Item state = pop();
    Dict* attributes = state.value_if<Dict>();
    Dict* dict = top().value_if<Dict>();
    if (attributes == nullptr || dict == nullptr || !dict->ordered() || !dict->attributes().empty()) {
      fail("sets the state of something that is not an OrderedDict");
    }
    deepen(state.depth);
    for (const DictEntry& entry : attributes->entries()) dict->add_attribute(entry.key, entry.value);
  }

  void push_storage() {
    Item id = pop();
    MixedTuple* tuple = id.get_if<MixedTuple>();
    if (tuple == nullptr || tuple->items.size() != 5) fail("has a storage without its five fields");
    const Text* word = tuple->items[0].value_if<Text>();
    const DType* dtype = tuple->items[1].get_if<DType>();
    const Text* key = tuple->items[2].value_if<Text>();
    const Text* location = tuple->items[3].value_if<Text>();
    const int64_t* numel = tuple->items[4].value_if<int64_t>();
    if (word == nullptr || **word != "storage" || dtype == nullptr || key == nullptr || location == nullptr || numel == nullptr) {
      fail("has a storage with fields of the wrong type");
    }
    const auto [place, is_new] = storages_.try_emplace(**key);
    if (is_new) {
      place->second = {*dtype, source_(**key)};
      storage_bytes_ += place->second.bytes->size();
    }
    const Storage& storage = place->second;
    const auto elements = static_cast<uint64_t>(storage.numel());
    if (storage.dtype != *dtype || storage.bytes->size() % dtype_size(*dtype) != 0 || static_cast<uint64_t>(*numel) != elements) {
      fail(format("declares storage \"%s\" with %lld elements of %s, but its record has %zu bytes", printable(**key).c_str(),
                  static_cast<long long>(*numel), dtype_name(*dtype), storage.bytes->size()));
    }
    push({storage});
  }

  std::vector<int64_t> integers(Item& item, const char* what) const {
    const Tuple* tuple = item.value_if<Tuple>();
    if (tuple == nullptr || tuple->items.size() > max_dimensions) fail(format("has a tensor with invalid %s", what));
    std::vector<int64_t> out;
    for (const Value& value : tuple->items) {
      const int64_t* integer = value.get_if<int64_t>();
      if (integer == nullptr || *integer < 0)
        fail(format("has a tensor with a negative or non-integer number among its %s", what));
      out.push_back(*integer);
    }
    return out;
  }

  RawTensor rebuild_tensor(Items& arguments) {
    const Storage* storage = arguments[0].get_if<Storage>();
    const int64_t* offset = arguments[1].value_if<int64_t>();
    const bool* requires_grad = arguments[4].value_if<bool>();
    const Dict* hooks = arguments[5].value_if<Dict>();
    if (storage == nullptr || offset == nullptr || *offset < 0 || requires_grad == nullptr || hooks == nullptr ||
        hooks->size() != 0) {
      fail("rebuilds a tensor from arguments of the wrong type");
    }
    const std::vector<int64_t> shape = integers(arguments[2], "sizes"), strides = integers(arguments[3], "strides");
    if (shape.size() != strides.size()) fail("has a tensor with different numbers of sizes and strides");

    if (!is_valid_shape(shape, storage->dtype)) fail("has a tensor whose size overflows");

    // last: position of the last element. Everything is bounded by the storage's size at each step, so nothing overflows.
    const int64_t available = storage->numel();
    const bool empty = std::find(shape.begin(), shape.end(), 0) != shape.end();
    int64_t numel = empty ? 0 : 1, last = *offset;
    bool contiguous = true;
    for (size_t i = shape.size(); i-- > 0 && !empty;) {
      if (shape[i] == 1) continue;
      contiguous = contiguous && strides[i] == numel;
      int64_t step = 0;
      if (__builtin_mul_overflow(numel, shape[i], &numel) || __builtin_mul_overflow(shape[i] - 1, strides[i], &step) ||
          __builtin_add_overflow(last, step, &last) || last >= available) {
        fail("has a tensor that reaches beyond its storage");
      }
      if (numel > available) fail("has a tensor whose elements share memory (an expanded view)");
    }
    if (*offset > available || (!empty && last >= available)) fail("has a tensor that reaches beyond its storage");
    count_tensor(static_cast<size_t>(numel) * dtype_size(storage->dtype));
    if (contiguous && numel == available) return {storage->dtype, shape, storage->bytes};
    return {storage->dtype, shape, gather(*storage, *offset, shape, strides, numel)};
  }

  /// Readers copy the values once per name, so without a limit a small file could claim any amount of memory.
  void count_tensor(size_t bytes) {
    tensor_bytes_ += bytes;
    if (tensor_bytes_ > max_copies_of_storage * storage_bytes_) fail("has too many overlapping views of the same storages");
  }

  /// The elements of a view in row-major order.
  std::shared_ptr<const Bytes> gather(const Storage& storage, int64_t offset, const std::vector<int64_t>& shape,
                                      const std::vector<int64_t>& strides, int64_t numel) {
    const size_t size = dtype_size(storage.dtype);
    auto out = std::make_shared<Bytes>();
    out->resize(static_cast<size_t>(numel) * size);
    std::vector<int64_t> index(shape.size(), 0);
    int64_t from = offset;
    for (int64_t to = 0; to < numel; ++to) {
      std::memcpy(out->data() + static_cast<size_t>(to) * size, storage.bytes->data() + static_cast<size_t>(from) * size, size);
      for (size_t i = shape.size(); i-- > 0;) {
        if (shape[i] == 1) continue;  // its stride is arbitrary
        from += strides[i];
        if (++index[i] < shape[i]) break;
        from -= shape[i] * strides[i];
        index[i] = 0;
      }
    }
    return out;
  }

  int64_t read_long() {
    const size_t size = read<uint8_t>();
    if (size > 8) fail("has an integer of more than 64 bits");
    const BytesView bytes = take(size);
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;) value = value << 8 | static_cast<uint64_t>(bytes[i]);
    if (size > 0 && size < 8 && (value >> (8 * size - 1) & 1) != 0) value |= ~uint64_t{0} << (8 * size);
    return static_cast<int64_t>(value);
  }

  double read_float() {
    uint64_t bits = 0;
    for (const std::byte byte : take(8)) bits = bits << 8 | static_cast<uint64_t>(byte);
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
  }

  Text read_string() {
    const std::string_view content = take_text(read<uint32_t>());
    if (valid_utf8_bytes(content) != content.size()) fail("has a string that is not UTF-8");
    return text(content);
  }

  /// False at the end mark.
  bool step(Op code) {
    if ((op_start_ == 0) != (code == Op::protocol)) fail("does not start like a torch.save pickle");
    switch (code) {
      case Op::protocol:
        if (read<uint8_t>() != 2) fail("does not use pickle protocol 2");
        break;
      case Op::stop:
        return false;
      case Op::mark:
        count_object();
        marks_.push_back(stack_.size());
        break;
      case Op::none:
        push_value({});
        break;
      case Op::true_:
        push_value(true);
        break;
      case Op::false_:
        push_value(false);
        break;
      case Op::uint8:
        push_value(int64_t{read<uint8_t>()});
        break;
      case Op::uint16:
        push_value(int64_t{read<uint16_t>()});
        break;
      case Op::int32:
        push_value(int64_t{read<int32_t>()});
        break;
      case Op::long1:
        push_value(read_long());
        break;
      case Op::float64:
        push_value(read_float());
        break;
      case Op::unicode:
        push_value(read_string());
        break;
      case Op::empty_list:
        push_value(List{}, 1);
        break;
      case Op::append:
        append(pop_items(1));
        break;
      case Op::appends:
        append(pop_to_mark());
        break;
      case Op::empty_tuple:
        push_tuple({});
        break;
      case Op::tuple1:
        push_tuple(pop_items(1));
        break;
      case Op::tuple2:
        push_tuple(pop_items(2));
        break;
      case Op::tuple3:
        push_tuple(pop_items(3));
        break;
      case Op::tuple:
        push_tuple(pop_to_mark());
        break;
      case Op::empty_dict:
        push_value(Dict(), 1);
        break;
      case Op::set_item:
        set_items(pop_items(2));
        break;
      case Op::set_items:
        set_items(pop_to_mark());
        break;
      case Op::get:
        recall(read<uint8_t>());
        break;
      case Op::long_get:
        recall(read<uint32_t>());
        break;
      case Op::put:
        memoize(read<uint8_t>());
        break;
      case Op::long_put:
        memoize(read<uint32_t>());
        break;
      case Op::global:
        push_global();
        break;
      case Op::reduce:
        call();
        break;
      case Op::build:
        build();
        break;
      case Op::persistent_id:
        push_storage();
        break;
      default:
        fail(format("has opcode 0x%02x, which is not supported", static_cast<unsigned>(code)));
    }
    return true;
  }

  BytesView pickle_;
  const std::string& name_;
  const StorageSource& source_;
  size_t position_ = 0, op_start_ = 0;
  size_t objects_ = 0, storage_bytes_ = 0, tensor_bytes_ = 0;
  Items stack_;
  std::vector<size_t> marks_;  // stack heights
  std::unordered_map<uint32_t, std::optional<Item>> memo_;
  std::unordered_map<std::string, Storage> storages_;
};

}  // namespace

Value unpickle(BytesView pickle, const std::string& name, const StorageSource& storages) {
  return Unpickler(pickle, name, storages).run();
}

}  // namespace pgolf
