#include "pgolf/base/files.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "pgolf/base/error.h"
#include "pgolf/base/format.h"

namespace pgolf {
namespace fs = std::filesystem;

namespace {

constexpr const char* kTemporary = ".tmp.";  // then the writer's process id

[[noreturn]] void fail(ExitCode code, const char* action, const fs::path& path, int error) {
  throw Error(code, format("cannot %s %s: %s", action, path.c_str(), std::strerror(error)));
}

[[noreturn]] void refuse_irregular(const fs::path& path, const std::string& kind) {
  throw Error(ExitCode::bad_input,
              format("%s is not a regular file%s", path.c_str(), kind.empty() ? "" : (": it is " + kind).c_str()));
}

int open_for_reading(const fs::path& path, size_t& size) {
  // Opening a pipe would block until it has a writer; O_NONBLOCK has no effect on regular files.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int error = errno;
    if (const std::string kind = irregular_kind(path); !kind.empty()) refuse_irregular(path, kind);
    fail(ExitCode::bad_input, "open", path, error);
  }
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    refuse_irregular(path, irregular_kind(path));
  }
  size = static_cast<size_t>(info.st_size);
  return fd;
}

template <class Container>
Container read_whole(const fs::path& path, size_t max_bytes) {
  size_t size = 0;
  const int fd = open_for_reading(path, size);
  if (max_bytes != 0 && size > max_bytes) {
    ::close(fd);
    throw Error(ExitCode::bad_input, format("%s has %zu bytes; the limit is %zu", path.c_str(), size, max_bytes));
  }
  Container out;
  out.resize(size);
  size_t done = 0;
  while (done < size) {
    const ssize_t n = ::read(fd, out.data() + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int error = n < 0 ? errno : EIO;
      ::close(fd);
      fail(ExitCode::io, "read", path, error);
    }
    done += static_cast<size_t>(n);
  }
  ::close(fd);
  return out;
}

/// Where a file written to this path belongs: symbolic links are followed, also those to nothing yet.
fs::path followed(fs::path path) {
  for (int links = 0;; ++links) {
    std::error_code error;
    const fs::path next = fs::read_symlink(path, error);
    if (error) return path;
    if (links == 40) fail(ExitCode::io, "create", path, ELOOP);
    path = next.is_absolute() ? next : path.parent_path() / next;
  }
}

/// What cannot be replaced: a device, a pipe, a socket.
bool is_special(const fs::path& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
}

/// Removes temporary files of this target whose writer was killed: nobody holds their lock.
void remove_abandoned(const fs::path& target) {
  const std::string prefix = target.filename().string() + kTemporary;
  std::error_code error;
  for (fs::directory_iterator entry(target.has_parent_path() ? target.parent_path() : ".", error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(prefix) || name.find_first_not_of("0123456789", prefix.size()) != std::string::npos) continue;
    const int fd = ::open(entry->path().c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (fd < 0) continue;
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) ::unlink(entry->path().c_str());
    ::close(fd);
  }
}

}  // namespace

BytesView as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const int fd = open_for_reading(path, size_);
  if (size_ > 0) {
    data_ = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
    if (data_ == MAP_FAILED) {
      const int error = errno;
      data_ = nullptr;
      ::close(fd);
      fail(ExitCode::io, "map", path, error);
    }
  }
  ::close(fd);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

Bytes read_bytes(const fs::path& path, size_t max_bytes) {
  return read_whole<Bytes>(path, max_bytes);
}
std::string read_text(const fs::path& path, size_t max_bytes) {
  return read_whole<std::string>(path, max_bytes);
}

AtomicFile::AtomicFile(fs::path target) : target_(std::move(target)) {
  if (is_special(target_)) {
    if (::access(target_.c_str(), W_OK) != 0) fail(ExitCode::io, "write", target_, errno);
    return;
  }
  target_ = followed(target_);
  std::error_code none;
  if (fs::is_directory(target_, none)) fail(ExitCode::io, "write", target_, EISDIR);
  remove_abandoned(target_);
  temporary_ = target_;
  temporary_ += kTemporary + std::to_string(::getpid());
  for (;;) {
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd_ < 0) fail(ExitCode::io, "create", temporary_, errno);
    // Without locks on this file system nothing is ever taken for abandoned. Until it was locked it could be.
    struct stat info {};
    if (::flock(fd_, LOCK_EX) != 0 || ::fstat(fd_, &info) != 0 || info.st_nlink > 0) return;
    ::close(fd_);
  }
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(BytesView bytes) {
  if (fd_ < 0) fd_ = ::open(target_.c_str(), O_WRONLY | O_CLOEXEC);  // waits for a pipe's reader
  if (fd_ < 0) fail(ExitCode::io, "open", target_, errno);
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(ExitCode::io, "write", written_path(), errno);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
}

void AtomicFile::write_at(size_t offset, BytesView bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(ExitCode::io, "write", written_path(), errno);
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += static_cast<size_t>(n);
  }
}

void AtomicFile::commit() {
  if (temporary_.empty()) {
    if (fd_ >= 0 && ::close(std::exchange(fd_, -1)) != 0) fail(ExitCode::io, "close", target_, errno);
    return;
  }
  if (::fsync(fd_) != 0) fail(ExitCode::io, "flush", temporary_, errno);
  if (::close(std::exchange(fd_, -1)) != 0) fail(ExitCode::io, "close", temporary_, errno);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
    const int error = errno;
    ::unlink(temporary_.c_str());
    fail(ExitCode::io, "rename to", target_, error);
  }
  // The rename itself is durable only once the directory is flushed.
  const fs::path parent = target_.has_parent_path() ? target_.parent_path() : fs::path(".");
  const int dir = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir >= 0) {
    ::fsync(dir);
    ::close(dir);
  }
}

void write_atomic(const fs::path& path, BytesView bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

void write_atomic(const fs::path& path, std::string_view text) {
  write_atomic(path, as_bytes(text));
}

bool is_temporary(const fs::path& path) {
  return path.filename().string().find(kTemporary) != std::string::npos;
}

void create_folders(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw Error(ExitCode::io, format("cannot create the folder %s: %s", path.c_str(), error.message().c_str()));
}

void append_whole(const fs::path& path, std::string_view text) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) fail(ExitCode::io, "open", path, errno);
  const off_t before = ::lseek(fd, 0, SEEK_END);
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int error = errno;
      const bool undone = before >= 0 && ::ftruncate(fd, before) == 0;
      ::close(fd);
      fail(ExitCode::io, undone ? "write" : "write all of a line of", path, error);
    }
    text.remove_prefix(static_cast<size_t>(n));
  }
  if (::close(fd) != 0) fail(ExitCode::io, "close", path, errno);
}

std::vector<fs::path> glob_sorted(const std::string& pattern) {
  const size_t name = pattern.rfind('/') + 1;  // 0 without a slash
  const std::string folder = pattern.substr(0, name), names = pattern.substr(name);
  const auto matches = [&names](const std::string& text) { return ::fnmatch(names.c_str(), text.c_str(), FNM_PERIOD) == 0; };
  std::error_code error;
  const bool plain = names.find_first_of("*?[\\") == std::string::npos;
  if (plain || !matches(names)) {
    const bool exists = !names.empty() && fs::exists(fs::symlink_status(pattern, error));
    if (exists) return {pattern};
    if (plain) return {};
  }
  std::vector<fs::path> paths;
  error.clear();
  fs::directory_iterator entry(folder.empty() ? "." : folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string text = entry->path().filename().string();
    if (matches(text)) paths.emplace_back(folder + text);
  }
  const bool absent = error == std::errc::no_such_file_or_directory || error == std::errc::not_a_directory;
  if (error && !absent) throw Error(ExitCode::bad_input, format("cannot list %s: %s", folder.c_str(), error.message().c_str()));
  std::sort(paths.begin(), paths.end(), [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  return paths;
}

std::string irregular_kind(const fs::path& path) {
  std::error_code error;
  switch (fs::status(path, error).type()) {
    case fs::file_type::directory:
      return "a folder";
    case fs::file_type::fifo:
      return "a pipe";
    case fs::file_type::socket:
      return "a socket";
    case fs::file_type::block:
    case fs::file_type::character:
      return "a device";
    case fs::file_type::not_found:
      return fs::is_symlink(fs::symlink_status(path, error)) ? "a link to nothing" : "";
    default:
      return "";
  }
}

fs::path program_folder() {
  return fs::read_symlink("/proc/self/exe").parent_path();
}

}  // namespace pgolf
