// Helpers for the artifact tests.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "pgolf/artifact/raw_tensor.h"
#include "pgolf/base/error.h"
#include "pgolf/base/files.h"

namespace pgolf::artifact_test {

/// Files recorded from upstream; tests that need them are skipped if they are absent.
inline std::filesystem::path shared_file(const std::string& relative) {
  const char* folder = std::getenv("PGOLF_SHARED");
  const std::filesystem::path root =
      folder != nullptr ? std::filesystem::path(folder) : std::filesystem::path(PGOLF_SOURCE_DIR) / "../shared";
  return root / relative;
}

/// A temporary folder, removed with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    static std::atomic<int> number{0};
    path_ = std::filesystem::temp_directory_path() /
            ("pgolf_artifact_test_" + std::to_string(::getpid()) + "_" + std::to_string(number++));
    std::filesystem::create_directories(path_);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

template <class T>
RawTensor tensor(DType dtype, std::vector<int64_t> shape, const std::vector<T>& values) {
  auto bytes = std::make_shared<Bytes>(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(bytes->data(), values.data(), bytes->size());
  return {dtype, std::move(shape), std::move(bytes)};
}

template <class T>
std::vector<T> values(const RawTensor& tensor) {
  std::vector<T> out(tensor.bytes->size() / sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), tensor.bytes->data(), tensor.bytes->size());
  return out;
}

inline Bytes to_bytes(std::string_view text) {
  const BytesView view = as_bytes(text);
  return {view.begin(), view.end()};
}

/// The action must throw Error(bad_input) whose message contains part.
inline void expect_bad_input(const std::function<void()>& action, std::string_view part) {
  try {
    action();
    ADD_FAILURE() << "no error; expected one about: " << part;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::bad_input);
    EXPECT_NE(std::string_view(e.what()).find(part), std::string_view::npos) << e.what();
    EXPECT_EQ(std::string_view(e.what()).find('\n'), std::string_view::npos) << e.what();
  }
}

/// The action may succeed or throw Error(bad_input), nothing else. True if it succeeded.
inline bool survives(const std::function<void()>& action) {
  try {
    action();
    return true;
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::bad_input) << e.what();
    return false;
  }
}

/// Calls parse with every truncation of original, and with every byte of it replaced by many other values.
/// Returns how many of these inputs were accepted.
inline int damage_everywhere(const Bytes& original, const std::function<void(BytesView)>& parse) {
  int accepted = 0;
  for (size_t size = 0; size < original.size(); ++size) {
    // A separate copy, so that a read beyond the end is out of bounds of its allocation.
    const Bytes cut(original.begin(), original.begin() + static_cast<ptrdiff_t>(size));
    accepted += survives([&] { parse(cut); });
  }
  Bytes damaged = original;
  for (std::byte& byte : damaged) {
    const std::byte before = byte;
    for (const int value : {0, 1, 2, 9, 40, 48, 64, 80, 127, 128, 129, 200, 254, 255}) {
      byte = static_cast<std::byte>(value);
      if (byte != before) accepted += survives([&] { parse(damaged); });
    }
    for (int bit = 0; bit < 8; ++bit) {
      byte = before ^ static_cast<std::byte>(1 << bit);
      accepted += survives([&] { parse(damaged); });
    }
    byte = before;
  }
  return accepted;
}

}  // namespace pgolf::artifact_test
