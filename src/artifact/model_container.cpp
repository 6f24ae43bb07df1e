#include "pgolf/artifact/model_container.h"

#include <algorithm>
#include <cstring>

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

/// Check before codec_of: a header length may start like a zlib stream, but no zlib stream continues like a header length.
bool starts_like_safetensors(BytesView file) {
  uint64_t header = 0;
  if (file.size() < sizeof header + 1) return false;
  std::memcpy(&header, file.data(), sizeof header);
  return file[sizeof header] == std::byte{'{'} && header < uint64_t{1} << 32;
}

[[noreturn]] void refuse(const std::string& name, const std::string& where, BytesView bytes) {
  const std::string kind = describe_foreign(bytes);
  throw Error(ExitCode::bad_input,
              name + ": not a model file: " + where + (kind.empty() ? "neither a torch.save archive nor safetensors" : kind),
              "a model is a run folder, a .pt, a .ptz (under zlib, xz or Brotli) or a .safetensors file");
}

ModelContainer from_torch(BytesView archive, const std::string& name) {
  ModelContainer container;
  Value value = load_torch(archive, name);
  container.format.codes = code_format_in(value);
  container.content = std::move(value);
  container.unpacked_bytes = archive.size();
  return container;
}

}  // namespace

ModelContainer parse_model_container(BytesView file, const std::string& name) {
  ModelContainer container;
  if (starts_like_zip(file)) {
    container = from_torch(file, name);
  } else if (starts_like_safetensors(file)) {
    Safetensors tensors = parse_safetensors(file, name);
    const auto format = tensors.metadata.find(layout::format);
    const bool checkpoint = format != tensors.metadata.end() && format->second.starts_with(layout::checkpoint_prefix);
    container.format.container = checkpoint ? Container::checkpoint : Container::safetensors;
    container.content = std::move(tensors);
    container.unpacked_bytes = file.size();
  } else if (const Codec codec = codec_of(file); codec != Codec::none) {
    const Bytes archive = decompress(codec, file, std::max(always_unpacked, unpacked_per_byte * file.size()), name);
    if (!starts_like_zip(archive)) refuse(name, format("the %s stream holds ", codec_name(codec)), archive);
    container = from_torch(archive, name);
    container.format.codec = codec;
  } else {
    refuse(name, "", file);
  }
  container.file_bytes = file.size();
  return container;
}

ModelContainer open_model_container(const std::filesystem::path& path) {
  const MappedFile file(path);
  return parse_model_container(file.bytes(), path.string());
}

}  // namespace pgolf
