#include <algorithm>
#include <utility>

#include "pgolf/artifact/pickle.h"
#include "pgolf/base/format.h"
#include "pickle_stack.h"

namespace pgolf {
namespace {

constexpr size_t max_dimensions = 16;

class Unpickler {
 public:
  Unpickler(BytesView pickle, const std::string& name, const StorageSource& source)
      : input_(pickle, name), tensors_(input_, source), stack_(input_, tensors_) {}

  Value run() {
    while (step(input_.read_op())) {
    }
    if (!input_.at_end()) input_.fail("continues after its end mark");
    return stack_.pop_result();
  }

 private:
  void push_global(const std::string& module, const std::string& attribute) {
    const std::string name = module + " " + attribute;
    if (name == ordered_dict_global) return stack_.push({Callable::ordered_dict});
    if (name == rebuild_tensor_global) return stack_.push({Callable::rebuild_tensor});
    if (name == rebuild_parameter_global) return stack_.push({Callable::rebuild_parameter});
    for (const StorageGlobal& global : storage_globals) {
      if (name == global.name) return stack_.push({global.dtype});
    }
    stack_.push_value(opaque(module + "." + attribute));
  }
  void push_global_from_lines() {
    const std::string module = input_.read_line();
    push_global(module, input_.read_line());
  }
  void push_global_from_stack() {
    Items names = stack_.pop_items(2);
    const Text *module = names[0].value_if<Text>(), *attribute = names[1].value_if<Text>();
    if (module == nullptr || attribute == nullptr) input_.fail("names a class by something that is not a string");
    if (std::max((*module)->size(), (*attribute)->size()) > max_global_chars) input_.fail("has a name that is too long");
    push_global(**module, **attribute);
  }

  void call() {
    Item arguments = stack_.pop();
    Item function = stack_.pop();
    if (Opaque* unknown = function.value_if<Opaque>()) return stack_.push_value(std::move(*unknown));
    const Callable* callable = function.get_if<Callable>();
    if (callable == nullptr) input_.fail("calls something that is not a function");
    switch (*callable) {
      case Callable::ordered_dict: {
        const Tuple* none = arguments.value_if<Tuple>();
        if (none == nullptr || !none->items.empty()) input_.fail("makes an OrderedDict with arguments");
        return stack_.push_value(Dict(/*ordered=*/true), 1);
      }
      case Callable::rebuild_tensor: {
        // With the storage of a dtype that is not read, all arguments are plain values.
        if (const Tuple* plain = arguments.value_if<Tuple>(); plain != nullptr && !plain->items.empty()) {
          if (const Opaque* storage = plain->items[0].get_if<Opaque>()) return stack_.push_value(*storage);
        }
        MixedTuple* tuple = arguments.get_if<MixedTuple>();
        if (tuple != nullptr && tuple->items.size() == 7)
          input_.fail("has a tensor that negates another's memory (a view); save what resolve_neg() makes of it");
        if (tuple == nullptr || tuple->items.size() != 6) input_.fail("rebuilds a tensor without its six arguments");
        return stack_.push_value(rebuild_tensor(tuple->items));
      }
      case Callable::rebuild_parameter: {
        const Tuple* tuple = arguments.value_if<Tuple>();
        if (tuple == nullptr || tuple->items.size() != 3) input_.fail("rebuilds a parameter without a tensor");
        const Value& tensor = tuple->items[0];
        if (tensor.get_if<RawTensor>() == nullptr && tensor.get_if<Opaque>() == nullptr)
          input_.fail("rebuilds a parameter without a tensor");
        return stack_.push_value(tensor);
      }
    }
  }

  /// The class and that many sets of arguments are on the stack.
  void make_object(size_t sets_of_arguments) {
    stack_.pop_items(sets_of_arguments);
    stack_.require_opaque("makes an object of something that is not a class");
  }

  void push_storage() {
    Item id = stack_.pop();
    // Only with a class of storages that is not read are the fields plain values.
    if (const Tuple* plain = id.value_if<Tuple>(); plain != nullptr && plain->items.size() == 5) {
      if (const Opaque* type = plain->items[1].get_if<Opaque>()) return stack_.push_value(*type);
    }
    MixedTuple* tuple = id.get_if<MixedTuple>();
    if (tuple == nullptr || tuple->items.size() != 5) input_.fail("has a storage without its five fields");
    const Text* word = tuple->items[0].value_if<Text>();
    const DType* dtype = tuple->items[1].get_if<DType>();
    const Text* key = tuple->items[2].value_if<Text>();
    const Text* location = tuple->items[3].value_if<Text>();
    const int64_t* numel = tuple->items[4].value_if<int64_t>();
    if (word == nullptr || **word != "storage" || dtype == nullptr || key == nullptr || location == nullptr || numel == nullptr) {
      input_.fail("has a storage with fields of the wrong type");
    }
    stack_.push({tensors_.storage(**key, *dtype, *numel)});
  }

  std::vector<int64_t> integers(Item& item, const char* what) const {
    const Tuple* tuple = item.value_if<Tuple>();
    if (tuple == nullptr || tuple->items.size() > max_dimensions) input_.fail(format("has a tensor with invalid %s", what));
    std::vector<int64_t> out;
    for (const Value& value : tuple->items) {
      const int64_t* integer = value.get_if<int64_t>();
      if (integer == nullptr || *integer < 0)
        input_.fail(format("has a tensor with a negative or non-integer number among its %s", what));
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
      input_.fail("rebuilds a tensor from arguments of the wrong type");
    }
    const std::vector<int64_t> shape = integers(arguments[2], "sizes"), strides = integers(arguments[3], "strides");
    return tensors_.view(*storage, *offset, shape, strides);
  }

  void push_integer(uint64_t bytes) {
    const auto integer = input_.read_integer(bytes);
    stack_.push_value(integer ? Value(*integer) : opaque("int of more than 64 bits"));
  }
  void push_string(uint64_t bytes) { stack_.push_value(input_.read_string(bytes)); }
  void push_bytes(uint64_t bytes) {
    input_.take(bytes);
    stack_.push_value(opaque("bytes"));
  }

  /// False at the end mark.
  bool step(Op code) {
    if (input_.at_first_op() != (code == Op::protocol)) input_.fail("does not start like a torch.save pickle");
    switch (code) {
      case Op::protocol:
        if (const int protocol = input_.read<uint8_t>(); protocol < first_protocol || protocol > last_protocol)
          input_.fail(format("uses pickle protocol %d; %d to %d are supported", protocol, first_protocol, last_protocol));
        break;
      case Op::stop:
        return false;
      case Op::frame:
        input_.check_frame(input_.read<uint64_t>());
        break;
      case Op::mark:
        stack_.push_mark();
        break;
      case Op::pop:
        stack_.pop();
        break;
      case Op::pop_mark:
        stack_.pop_to_mark();
        break;
      case Op::get:
        stack_.recall(input_.read<uint8_t>());
        break;
      case Op::long_get:
        stack_.recall(input_.read<uint32_t>());
        break;
      case Op::put:
        stack_.memoize(input_.read<uint8_t>());
        break;
      case Op::long_put:
        stack_.memoize(input_.read<uint32_t>());
        break;
      case Op::memoize:
        stack_.memoize_next();
        break;
      case Op::global:
        push_global_from_lines();
        break;
      case Op::stack_global:
        push_global_from_stack();
        break;
      case Op::reduce:
        call();
        break;
      case Op::new_object:
        make_object(1);
        break;
      case Op::new_object_with_keywords:
        make_object(2);
        break;
      case Op::build:
        stack_.set_attributes(stack_.pop());
        break;
      case Op::persistent_id:
        push_storage();
        break;
      default:
        if (!step_container(code) && !step_scalar(code))
          input_.fail(format("has opcode 0x%02x, which is not supported", static_cast<unsigned>(code)));
    }
    return true;
  }

  /// False if it is none.
  bool step_container(Op code) {
    switch (code) {
      case Op::empty_list:
        stack_.push_value(List{}, 1);
        break;
      case Op::append:
        stack_.append(stack_.pop_items(1));
        break;
      case Op::appends:
        stack_.append(stack_.pop_to_mark());
        break;
      case Op::empty_tuple:
        stack_.push_tuple({});
        break;
      case Op::tuple1:
        stack_.push_tuple(stack_.pop_items(1));
        break;
      case Op::tuple2:
        stack_.push_tuple(stack_.pop_items(2));
        break;
      case Op::tuple3:
        stack_.push_tuple(stack_.pop_items(3));
        break;
      case Op::tuple:
        stack_.push_tuple(stack_.pop_to_mark());
        break;
      case Op::empty_dict:
        stack_.push_value(Dict(), 1);
        break;
      case Op::set_item:
        stack_.set_items(stack_.pop_items(2));
        break;
      case Op::set_items:
        stack_.set_items(stack_.pop_to_mark());
        break;
      case Op::empty_set:
        stack_.push_value(opaque("set"));
        break;
      case Op::add_items:
        stack_.pop_to_mark();
        stack_.require_opaque("adds items to something that is not a set");
        break;
      case Op::frozen_set:
        stack_.pop_to_mark();
        stack_.push_value(opaque("frozenset"));
        break;
      default:
        return false;
    }
    return true;
  }

  /// False if it is none.
  bool step_scalar(Op code) {
    switch (code) {
      case Op::none:
        stack_.push_value({});
        break;
      case Op::true_:
        stack_.push_value(true);
        break;
      case Op::false_:
        stack_.push_value(false);
        break;
      case Op::uint8:
        stack_.push_value(int64_t{input_.read<uint8_t>()});
        break;
      case Op::uint16:
        stack_.push_value(int64_t{input_.read<uint16_t>()});
        break;
      case Op::int32:
        stack_.push_value(int64_t{input_.read<int32_t>()});
        break;
      case Op::long1:
        push_integer(input_.read<uint8_t>());
        break;
      case Op::long4:
        push_integer(input_.read<uint32_t>());
        break;
      case Op::float64:
        stack_.push_value(input_.read_float());
        break;
      case Op::short_unicode:
        push_string(input_.read<uint8_t>());
        break;
      case Op::unicode:
        push_string(input_.read<uint32_t>());
        break;
      case Op::unicode8:
        push_string(input_.read<uint64_t>());
        break;
      case Op::short_bytes:
        push_bytes(input_.read<uint8_t>());
        break;
      case Op::bytes:
        push_bytes(input_.read<uint32_t>());
        break;
      case Op::bytes8:
      case Op::byte_array8:
        push_bytes(input_.read<uint64_t>());
        break;
      default:
        return false;
    }
    return true;
  }

  PickleInput input_;
  PickleTensors tensors_;
  PickleStack stack_;
};

}  // namespace

Value unpickle(BytesView pickle, const std::string& name, const StorageSource& storages) {
  return Unpickler(pickle, name, storages).run();
}

}  // namespace pgolf
