#include "pgolf/artifact/model_container.h"

#include <algorithm>

#include "pgolf/artifact/code_format.h"
#include "pgolf/artifact/layout.h"
#include "pgolf/artifact/torch_file.h"
#include "pgolf/artifact/zip.h"
#include "pgolf/base/error.h"
#include "pgolf/base/foreign_kind.h"
#include "pgolf/base/format.h"

namespace pgolf {
namespace {

// Artifacts of trained weights stay far below both limits, which bound the memory that a small file can claim.
constexpr size_t unpacked_per_byte = 64;
constexpr size_t always_unpacked = size_t{256} << 20;

[[noreturn]] void refuse(const std::string& name, const std::string& where, BytesView bytes) {
  const std::string kind = describe_foreign(bytes);
  throw Error(ExitCode::bad_input,
              name + ": not a model file: " + where + (kind.empty() ? "neither a torch.save archive nor safetensors" : kind),
              "a model is a run folder, a .pt or .safetensors file, or one of these under zlib, xz or Brotli (.ptz)");
}

/// file: not compressed. where: "the zlib stream holds " or nothing.
ModelContainer from_plain(BytesView file, const std::string& name, const std::string& where) {
  ModelContainer container;
  container.unpacked_bytes = file.size();
  if (starts_like_safetensors(file)) {
    Safetensors tensors = parse_safetensors(file, name);
    const auto format = tensors.metadata.find(layout::format);
    const bool checkpoint = format != tensors.metadata.end() && format->second.starts_with(layout::checkpoint_prefix);
    container.format.container = checkpoint ? Container::checkpoint : Container::safetensors;
    container.content = std::move(tensors);
  } else if (starts_like_zip(file) && foreign_zip(file).empty()) {
    Value value = load_torch(file, name);
    container.format.codes = code_format_in(value);
    container.content = std::move(value);
  } else {
    refuse(name, where, file);
  }
  return container;
}

}  // namespace

ModelContainer parse_model_container(BytesView file, const std::string& name) {
  // The length of a safetensors header may look like the start of a zlib stream, but no stream goes on like one.
  const Codec codec = starts_like_zip(file) || starts_like_safetensors(file) ? Codec::none : codec_of(file);
  ModelContainer container;
  if (codec == Codec::none) {
    container = from_plain(file, name, "");
  } else {
    const Bytes plain = decompress(codec, file, std::max(always_unpacked, unpacked_per_byte * file.size()), name);
    container = from_plain(plain, name, format("the %s stream holds ", codec_name(codec)));
    container.format.codec = codec;
  }
  container.file_bytes = file.size();
  return container;
}

ModelContainer open_model_container(const std::filesystem::path& path) {
  const MappedFile file(path);
  return parse_model_container(file.bytes(), path.string());
}

}  // namespace pgolf
