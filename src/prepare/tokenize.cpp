#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <span>
#include <thread>

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/hash.h"
#include "pgolf/base/log.h"
#include "pgolf/base/progress.h"
#include "pgolf/base/share_out.h"
#include "pgolf/base/stopwatch.h"
#include "pgolf/data/shard.h"
#include "pgolf/data/shard_manifest.h"
#include "pgolf/data/tokenizer.h"
#include "pgolf/prepare/byte_report.h"
#include "pgolf/prepare/created_folder.h"
#include "pgolf/prepare/documents.h"
#include "pgolf/prepare/prepare.h"

namespace pgolf {
namespace fs = std::filesystem;
namespace {

/// Held while shards are written to a folder; the system releases it when the process ends, however it ends.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder) : fd_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (fd_ < 0) throw Error(ExitCode::io, format("cannot open the folder %s", folder.c_str()));
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      ::close(fd_);
      throw Error(ExitCode::io, format("another prepare_data is writing to %s", folder.c_str()),
                  "wait for it, or use another --out-dir");
    }
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock() { ::close(fd_); }

 private:
  int fd_;
};

/// A temporary folder, emptied at the start (an earlier run may have been killed) and removed at the end.
class PartialFolder {
 public:
  explicit PartialFolder(fs::path path) : path_(std::move(path)) {
    remove();
    fs::create_directory(path_);
  }
  PartialFolder(const PartialFolder&) = delete;
  PartialFolder& operator=(const PartialFolder&) = delete;
  ~PartialFolder() { remove(); }

  const fs::path& path() const { return path_; }

 private:
  void remove() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }

  fs::path path_;
};

/// The shards of one split: fills each to exactly shard_tokens, then continues in the next.
class SplitWriter {
 public:
  SplitWriter(const char* split, fs::path folder, int64_t shard_tokens)
      : split_(split), folder_(std::move(folder)), shard_tokens_(shard_tokens) {}

  /// bytes: of text, as its tokens count them.
  void append(std::span<const uint16_t> document, int64_t bytes) {
    ++documents_;
    bytes_ += bytes;
    tokens_ += static_cast<int64_t>(document.size());
    while (!document.empty()) {
      if (!writer_) {
        files_.push_back(format("fineweb_%s_%06zu.bin", split_, files_.size()));
        writer_.emplace(folder_ / files_.back());
      }
      const size_t room = static_cast<size_t>(shard_tokens_ - writer_->token_count());
      const size_t n = std::min(room, document.size());
      writer_->append(document.first(n));
      document = document.subspan(n);
      if (n == room) finish();
    }
  }

  void finish() {
    if (!writer_) return;
    writer_->commit();
    writer_.reset();
  }

  const std::vector<std::string>& files() const { return files_; }
  int64_t documents() const { return documents_; }
  int64_t tokens() const { return tokens_; }
  int64_t bytes() const { return bytes_; }

 private:
  const char* split_;
  fs::path folder_;
  int64_t shard_tokens_;
  std::vector<std::string> files_;
  std::optional<ShardWriter> writer_;
  int64_t documents_ = 0;
  int64_t tokens_ = 0;
  int64_t bytes_ = 0;
};

std::vector<fs::path> existing_shards(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    const bool is_shard = name.starts_with("fineweb_train_") || name.starts_with("fineweb_val_");
    if (is_shard && entry.path().extension() == ".bin") found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

bool hashes_below(const std::string& text, double fraction) {
  const std::string first_64_bits = sha256_hex(as_bytes(text)).substr(0, 16);
  return static_cast<double>(std::stoull(first_64_bits, nullptr, 16)) / 0x1p64 < fraction;
}

struct Encoded {
  std::vector<uint16_t> tokens;  // BOS first
  bool below_fraction = false;
  DocumentBytes bytes;
};

class Job {
 public:
  explicit Job(const TokenizeOptions& options)
      : options_(options),
        tokenizer_(options.tokenizer_path),
        check_(tokenizer_),
        manifest_(manifest_of(tokenizer_)),
        reader_(options.inputs),
        threads_(options.threads > 0 ? options.threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()))) {
    if (tokenizer_.vocab_size() > kMaxVocabSize) {
      throw Error(ExitCode::bad_input,
                  format("%s has %d pieces; shards hold 16-bit ids", tokenizer_.path().c_str(), tokenizer_.vocab_size()));
    }
  }

  void run();

 private:
  Encoded encode(const std::string& text) const {
    Encoded out;
    const std::vector<int> ids = tokenizer_.encode(text);
    out.tokens.reserve(ids.size() + 1);
    out.tokens.push_back(static_cast<uint16_t>(manifest_.bos_id));
    for (const int id : ids) out.tokens.push_back(static_cast<uint16_t>(id));
    out.bytes = compare_bytes(tokenizer_, check_, text, out.tokens);
    if (options_.val_fraction) out.below_fraction = hashes_below(text, *options_.val_fraction);
    return out;
  }

  void write_all(SplitWriter& train, SplitWriter& val);
  void check_splits(const SplitWriter& train, const SplitWriter& val) const;
  void check_validation_text(const SplitWriter& val) const;

  const TokenizeOptions& options_;
  Tokenizer tokenizer_;
  ByteCheck check_;
  ShardManifest manifest_;
  DocumentReader reader_;
  int threads_;
  DocumentBytes bytes_;
};

void Job::write_all(SplitWriter& train, SplitWriter& val) {
  const size_t batch_bytes = static_cast<size_t>(threads_) << 20;  // enough work for every thread, little memory
  const Stopwatch watch;
  Progress progress("tokenize", reader_.total_bytes());
  const auto throughput = [&] {
    const double seconds = std::max(1e-9, watch.seconds());
    return format("%.1f MB/s, %s tokens/s", static_cast<double>(reader_.bytes_read()) / 1e6 / seconds,
                  with_commas(static_cast<int64_t>(static_cast<double>(train.tokens() + val.tokens()) / seconds)).c_str());
  };

  std::string text;
  std::vector<std::string> batch;
  std::vector<Encoded> encoded;
  for (bool more = true; more;) {
    batch.clear();
    for (size_t bytes = 0; bytes < batch_bytes && (more = reader_.next(text));) {
      bytes += text.size();
      announce_if_large(reader_, text.size());
      batch.push_back(std::move(text));
    }
    encoded.assign(batch.size(), {});
    share_out(batch.size(), threads_, [&](size_t i) { encoded[i] = encode(batch[i]); });
    for (const auto& document : encoded) {
      const bool is_val = options_.val_docs ? val.documents() < *options_.val_docs : document.below_fraction;
      (is_val ? val : train).append(document.tokens, document.bytes.tokens.counted(options_.byte_counting));
      bytes_ += document.bytes;
    }
    progress.update(reader_.bytes_read(), throughput());
  }
  train.finish();
  val.finish();
  progress.finish();
  log::info(format("%s of text in %zu files: %s", human_bytes(static_cast<double>(reader_.bytes_read())).c_str(),
                   reader_.file_count(), throughput().c_str()));
}

void Job::check_splits(const SplitWriter& train, const SplitWriter& val) const {
  const std::string total = with_commas(train.documents() + val.documents());
  if (train.documents() + val.documents() == 0)
    throw Error(ExitCode::bad_input, "the inputs contain no documents",
                "give non-empty .txt files, or .jsonl files with a \"text\" in each line");
  if (options_.val_docs && val.documents() < *options_.val_docs) {
    throw Error(
        ExitCode::bad_input,
        format("--val-docs asks for %s documents, but there are only %s", with_commas(*options_.val_docs).c_str(), total.c_str()),
        "use a smaller --val-docs, or --val-fraction");
  }
  if (options_.val_fraction && *options_.val_fraction > 0 && (val.documents() == 0 || train.documents() == 0)) {
    throw Error(ExitCode::bad_input,
                format("with --val-fraction %s, none of %s documents goes to %s", python_float(*options_.val_fraction).c_str(),
                       total.c_str(), val.documents() == 0 ? "validation" : "training"),
                "use another fraction, or --val-docs");
  }
}

void Job::check_validation_text(const SplitWriter& val) const {
  if (val.documents() == 0 || val.bytes() > 0) return;
  throw Error(ExitCode::bad_input,
              format("the tokens of %s validation documents count no byte of text, so bits per byte would be infinite",
                     with_commas(val.documents()).c_str()),
              "use more documents for validation (--val-docs, --val-fraction)");
}

void Job::run() {
  const CreatedFolder created(options_.out_dir);
  const FolderLock lock(options_.out_dir);
  const auto old_shards = existing_shards(options_.out_dir);
  if (!old_shards.empty() && !options_.force) {
    throw Error(ExitCode::usage,
                format("%s already has shards (%s)", options_.out_dir.c_str(), old_shards.front().filename().c_str()),
                "use another --out-dir, or --force to replace them");
  }
  const PartialFolder partial(unfinished_shards(options_.out_dir));
  SplitWriter train("train", partial.path(), options_.shard_tokens);
  SplitWriter val("val", partial.path(), options_.shard_tokens);
  write_all(train, val);
  check_splits(train, val);
  report_bytes(tokenizer_, check_, bytes_, options_.byte_counting);
  check_validation_text(val);
  write_manifest(partial.path(), manifest_);

  fs::remove(manifest_path(options_.out_dir));
  for (const auto& file : old_shards) fs::remove(file);
  for (const auto* split : {&train, &val}) {
    for (const auto& file : split->files()) fs::rename(partial.path() / file, options_.out_dir / file);
  }
  fs::rename(manifest_path(partial.path()), manifest_path(options_.out_dir));
  const auto report = [this](const char* name, const SplitWriter& split) {
    log::info(format("%s tokens:%s documents:%s shards:%zu", (options_.out_dir / name).c_str(),
                     with_commas(split.tokens()).c_str(), with_commas(split.documents()).c_str(), split.files().size()));
  };
  report("fineweb_train", train);
  report("fineweb_val", val);
}

}  // namespace

void tokenize(const TokenizeOptions& options) {
  try {
    Job(options).run();
  } catch (const fs::filesystem_error& e) {
    throw Error(ExitCode::io, format("%s: %s", e.path1().c_str(), e.code().message().c_str()));
  }
}

}  // namespace pgolf
