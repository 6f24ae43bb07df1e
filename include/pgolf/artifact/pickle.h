// The pickle inside a PyTorch file: a reader for what tensors in dicts and lists need, and a writer whose output equals that of
// Python's pickler (protocol 2).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "pgolf/artifact/value.h"

namespace pgolf {

/// Returns the bytes of storage `key` ("0", "1", ...); throws Error(bad_input) if there is none.
using StorageSource = std::function<std::shared_ptr<const Bytes>(const std::string& key)>;

/// Protocols 2 to 5. Never executes anything: of classes and functions, all but a short list become an Opaque, and so does what
/// is made of one or put into one. Further Opaque values: bytes, sets, integers of more than 64 bits, dicts with keys that are
/// neither strings nor whole numbers, and a container wherever it occurs again, be it within itself. Whole numbers become keys in
/// decimal digits: {0: x} is read as {"0": x}. Errors are all other opcodes, tensors that exceed their storage, nesting beyond 64
/// levels, more than a million objects, and duplicate keys: Error(bad_input) with name and byte offset. Tensors are contiguous;
/// one that covers its whole storage shares that storage's bytes.
Value unpickle(BytesView pickle, const std::string& name, const StorageSource& storages);

struct Pickled {
  Bytes pickle;
  std::vector<std::shared_ptr<const Bytes>> storages;  ///< number i is called "i" in the pickle
};

/// What pickle.Pickler(protocol=2) writes within torch.save for the same objects. A Text object, and a bytes object shared
/// by tensors, is written once and then referenced; equal copies are not.
Pickled pickle(const Value& value);

}  // namespace pgolf
