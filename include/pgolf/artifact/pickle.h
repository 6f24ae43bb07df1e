// The pickle inside a PyTorch file: a reader for the few opcodes and globals needed for tensors in dicts and lists, and
// a writer whose output equals that of Python's pickler (protocol 2).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "pgolf/artifact/value.h"

namespace pgolf {

/// Returns the bytes of storage `key` ("0", "1", ...); throws Error(bad_input) if there is none.
using StorageSource = std::function<std::shared_ptr<const Bytes>(const std::string& key)>;

/// Never executes anything: every opcode and global outside a short list is an error, and so are tensors that exceed
/// their storage, nesting beyond 64 levels, more than a million objects, dict keys that are not strings or are
/// duplicated, and containers used in more than one place. Throws Error(bad_input) with name and byte offset.
/// Tensors are contiguous; one that covers its whole storage shares that storage's bytes.
Value unpickle(BytesView pickle, const std::string& name, const StorageSource& storages);

struct Pickled {
  Bytes pickle;
  std::vector<std::shared_ptr<const Bytes>> storages;  ///< number i is called "i" in the pickle
};

/// What pickle.Pickler(protocol=2) writes within torch.save for the same objects. A Text object, and a bytes object shared
/// by tensors, is written once and then referenced; equal copies are not.
Pickled pickle(const Value& value);

}  // namespace pgolf
