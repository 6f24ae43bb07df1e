#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <stdexcept>
#include <unordered_map>

#include "pgolf/artifact/pickle.h"
#include "pickle_format.h"

namespace pgolf {
namespace {

// Python writes long lists and dicts in batches of this many items.
constexpr size_t batch_size = 1000;

class Pickler {
 public:
  Pickled run(const Value& value) {
    op(Op::protocol);
    byte(2);
    save(value);
    op(Op::stop);
    return std::move(result_);
  }

 private:
  void byte(uint8_t value) { result_.pickle.push_back(static_cast<std::byte>(value)); }
  void op(Op code) { byte(static_cast<uint8_t>(code)); }
  void raw(std::string_view text) {
    const BytesView bytes = as_bytes(text);
    result_.pickle.insert(result_.pickle.end(), bytes.begin(), bytes.end());
  }
  void little_endian(uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) byte(static_cast<uint8_t>(value >> (8 * i)));
  }

  uint32_t memoize() {
    const uint32_t index = memo_size_++;
    op(index < 256 ? Op::put : Op::long_put);
    little_endian(index, index < 256 ? 1 : 4);
    return index;
  }
  void recall(uint32_t index) {
    op(index < 256 ? Op::get : Op::long_get);
    little_endian(index, index < 256 ? 1 : 4);
  }

  void save(const Value& value) {
    std::visit([this](const auto& content) { save(content); }, value.content());
  }

  void save(std::monostate) { op(Op::none); }
  void save(bool value) { op(value ? Op::true_ : Op::false_); }

  void save(int64_t value) {
    if (value >= 0 && value <= 0xff) {
      op(Op::uint8);
      little_endian(static_cast<uint64_t>(value), 1);
    } else if (value >= 0 && value <= 0xffff) {
      op(Op::uint16);
      little_endian(static_cast<uint64_t>(value), 2);
    } else if (value >= std::numeric_limits<int32_t>::min() && value <= std::numeric_limits<int32_t>::max()) {
      op(Op::int32);
      little_endian(static_cast<uint64_t>(value), 4);
    } else {
      // The fewest bytes whose top bit is still the sign.
      size_t bytes = 8;
      while (value >> (8 * bytes - 9) == (value < 0 ? -1 : 0)) --bytes;
      op(Op::long1);
      byte(static_cast<uint8_t>(bytes));
      little_endian(static_cast<uint64_t>(value), bytes);
    }
  }

  void save(double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    op(Op::float64);
    for (int shift = 56; shift >= 0; shift -= 8) byte(static_cast<uint8_t>(bits >> shift));
  }

  void save(const Text& text) {
    if (const auto known = texts_.find(text.get()); known != texts_.end()) return recall(known->second);
    op(Op::unicode);
    little_endian(text->size(), 4);
    raw(*text);
    texts_.emplace(text.get(), memoize());
  }

  /// name is "module attribute".
  void save_global(std::string_view name) {
    if (const auto known = globals_.find(name); known != globals_.end()) return recall(known->second);
    op(Op::global);
    std::string lines(name);
    std::replace(lines.begin(), lines.end(), ' ', '\n');
    raw(lines);
    byte('\n');
    globals_.emplace(name, memoize());
  }

  template <class Items>
  void save_tuple(const Items& items) {
    if (items.empty()) return op(Op::empty_tuple);
    if (items.size() > 3) op(Op::mark);
    for (const auto& item : items) save(item);
    static constexpr Op short_tuples[] = {Op::tuple1, Op::tuple2, Op::tuple3};
    op(items.size() > 3 ? Op::tuple : short_tuples[items.size() - 1]);
    memoize();
  }
  void save(const Tuple& tuple) { save_tuple(tuple.items); }

  void save(const List& list) {
    op(Op::empty_list);
    memoize();
    if (list.items.size() == 1) {
      save(list.items.front());
      op(Op::append);
      return;
    }
    for (size_t first = 0; first < list.items.size(); first += batch_size) {
      op(Op::mark);
      for (size_t i = first; i < std::min(first + batch_size, list.items.size()); ++i) save(list.items[i]);
      op(Op::appends);
    }
  }

  void save(const DictEntry& entry) {
    save(entry.key);
    save(entry.value);
  }

  /// Python has one loop for plain dicts and another for dict-like iterables. They differ at the end: the first writes an
  /// empty last batch after a full one, the second writes a single last item without a mark.
  void save_plain_items(const std::vector<DictEntry>& entries) {
    if (entries.empty()) return;
    if (entries.size() == 1) {
      save(entries.front());
      return op(Op::set_item);
    }
    size_t next = 0, in_batch = 0;
    do {
      op(Op::mark);
      for (in_batch = 0; in_batch < batch_size && next < entries.size(); ++in_batch) save(entries[next++]);
      op(Op::set_items);
    } while (in_batch == batch_size);
  }

  void save_iterated_items(const std::vector<DictEntry>& entries) {
    for (size_t first = 0; first < entries.size(); first += batch_size) {
      const size_t last = std::min(first + batch_size, entries.size());
      const bool single = last - first == 1;
      if (!single) op(Op::mark);
      for (size_t i = first; i < last; ++i) save(entries[i]);
      op(single ? Op::set_item : Op::set_items);
    }
  }

  void save_ordered_dict(const std::vector<DictEntry>& entries) {
    save_global(ordered_dict_global);
    op(Op::empty_tuple);
    op(Op::reduce);
    memoize();
    save_iterated_items(entries);
  }

  void save(const Dict& dict) {
    if (dict.ordered()) {
      save_ordered_dict(dict.entries());
    } else {
      op(Op::empty_dict);
      memoize();
      save_plain_items(dict.entries());
    }
    if (!dict.attributes().empty()) {
      op(Op::empty_dict);
      memoize();
      save_plain_items(dict.attributes());
      op(Op::build);
    }
  }

  /// _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward_hooks)
  void save(const RawTensor& tensor) {
    std::vector<int64_t> strides(tensor.shape.size());
    int64_t stride = 1;
    for (size_t i = strides.size(); i-- > 0;) {
      strides[i] = stride;
      stride *= std::max<int64_t>(tensor.shape[i], 1);
    }
    save_global(rebuild_tensor_global);
    op(Op::mark);
    save_storage(tensor);
    save(int64_t{0});
    save_tuple(tensor.shape);
    save_tuple(strides);
    save(false);
    save_ordered_dict({});
    op(Op::tuple);
    memoize();
    op(Op::reduce);
    memoize();
  }

  /// The persistent id ("storage", type, key, location, number of elements).
  void save_storage(const RawTensor& tensor) {
    const auto [place, is_new] = storages_.try_emplace(tensor.bytes.get());
    if (is_new) {
      place->second = {text(std::to_string(result_.storages.size())), tensor.dtype};
      result_.storages.push_back(tensor.bytes);
    } else if (place->second.dtype != tensor.dtype) {
      throw std::logic_error("two tensors of different dtypes share their bytes");
    }
    const auto type = std::find_if(std::begin(storage_globals), std::end(storage_globals),
                                   [&](const StorageGlobal& global) { return global.dtype == tensor.dtype; });
    op(Op::mark);
    save(storage_word_);
    save_global(type->name);
    save(place->second.key);
    save(cpu_word_);
    save(static_cast<int64_t>(tensor.bytes->size() / dtype_size(tensor.dtype)));
    op(Op::tuple);
    memoize();
    op(Op::persistent_id);
  }

  void save(const Opaque& opaque) { throw std::logic_error("there is nothing to write of " + *opaque.what); }

  struct Storage {
    Text key;
    DType dtype;
  };

  Pickled result_;
  uint32_t memo_size_ = 0;
  std::unordered_map<const std::string*, uint32_t> texts_;
  std::map<std::string_view, uint32_t> globals_;
  std::unordered_map<const Bytes*, Storage> storages_;
  const Text storage_word_ = text("storage");
  const Text cpu_word_ = text("cpu");
};

}  // namespace

Pickled pickle(const Value& value) {
  return Pickler().run(value);
}

}  // namespace pgolf
