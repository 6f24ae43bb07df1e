// Folders that go away, files written by hand, and the check for a good error.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"

namespace pgolf::testing {

namespace fs = std::filesystem;

/// A folder of its own, removed with the object.
class TempFolder {
 public:
  TempFolder() {
    static int count = 0;
    path_ = fs::temp_directory_path() / format("pgolf_test_%d_%d", static_cast<int>(::getpid()), count++);
    fs::create_directories(path_);
    existing_.insert(path_);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() { remove(path_); }

  /// end_program(), which leaves out the destructors of static objects, and removes their folders here.
  static int end_tests(int code) {
    for (const auto folders = existing_; const auto& path : folders) remove(path);
    return end_program(code);
  }

  fs::path operator/(const std::string& name) const { return path_ / name; }
  const fs::path& path() const { return path_; }

 private:
  static void remove(const fs::path& path) {
    std::error_code ignored;
    fs::remove_all(path, ignored);
    existing_.erase(path);
  }

  static inline std::set<fs::path> existing_;
  fs::path path_;
};

inline void write_file(const fs::path& path, std::string_view content) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

/// Changes one byte somewhere behind the middle.
inline void damage_file(const fs::path& path) {
  std::string content = read_text(path);
  content[content.size() * 3 / 4] ^= 0x10;
  write_file(path, content);
}

/// While it lives, the process has the rights of anybody: permissions hold for root, too.
class AsNobody {
 public:
  AsNobody() { dropped_ = ::geteuid() == 0 && ::seteuid(65534) == 0; }
  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;
  ~AsNobody() {
    if (dropped_ && ::seteuid(0) != 0) ADD_FAILURE() << "cannot become root again";
  }
  /// False if the process still is root.
  bool works() const { return ::geteuid() != 0; }

 private:
  bool dropped_ = false;
};

/// Names in a folder, sorted.
inline std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& path : glob_sorted((folder / "*").string())) names.push_back(path.filename());
  return names;
}

/// Runs body, expects an Error of this code, in one line, whose text or hint contains every part, and returns "what | hint".
inline std::string expect_error(ExitCode code, const std::vector<std::string>& parts, const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& e) {
    const std::string message = std::string(e.what()) + " | " + e.hint();
    EXPECT_EQ(static_cast<int>(e.code()), static_cast<int>(code)) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << "one line: " << message;
    for (const auto& part : parts)
      EXPECT_NE(message.find(part), std::string::npos) << "\"" << part << "\" is not in: " << message;
    return message;
  }
  ADD_FAILURE() << "no Error was thrown";
  return {};
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace pgolf::testing
