// The zip archives that torch.save writes: uncompressed records whose data is aligned to 64 bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "pgolf/base/files.h"

namespace pgolf {

bool starts_like_zip(BytesView file);

struct ZipRecord {
  std::string name;
  BytesView bytes;  ///< within the reader's archive
};

/// Reads the directory of a stored zip archive, zip64 included, and verifies every record's CRC32.
class ZipReader {
 public:
  /// archive must outlive the reader; name is for messages. Throws Error(bad_input) if archive is not a zip file, is
  /// truncated, has compressed or encrypted records, records that overlap or have the same name, or a wrong checksum.
  ZipReader(BytesView archive, std::string name);

  const std::vector<ZipRecord>& records() const { return records_; }  ///< in directory order
  const ZipRecord* find(const std::string& record_name) const;        ///< null if absent

 private:
  std::vector<ZipRecord> records_;
  std::unordered_map<std::string, size_t> index_;
};

/// Writes an archive byte for byte as PyTorch 2.11's stream writer does, for the same records in the same order.
/// Limit: 4 GiB in total, above which the format uses a different layout.
class TorchZipWriter {
 public:
  /// All records go under top_folder ("archive" for torch.save to memory, the file's stem for torch.save to a path).
  explicit TorchZipWriter(std::string_view top_folder);

  /// Throws Error(bad_input) if the archive would grow too large.
  void add(std::string_view record_name, BytesView bytes);

  /// Adds "version" and ".data/serialization_id", then the directory, and returns the archive. Call once, last.
  Bytes finish();

 private:
  struct Written {
    std::string name;
    uint32_t crc32;
    uint32_t size;
    uint32_t offset;
  };

  std::string top_folder_;
  Bytes out_;
  std::vector<Written> written_;
  std::unordered_set<std::string> names_;  // its iteration order affects the serialization id
  uint64_t combined_crc32_ = 0;
};

}  // namespace pgolf
