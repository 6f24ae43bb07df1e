#include "pgolf/prepare/folder_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"
#include "pgolf/base/text.h"

namespace pgolf {
namespace fs = std::filesystem;
namespace {

class Walk {
 public:
  Walk(const std::vector<std::string>& extensions, const std::string& companion, FolderFiles& found)
      : extensions_(extensions), companion_(companion), found_(found) {}

  void visit(const fs::path& folder) {
    std::error_code error;
    struct stat identity {};
    if (::stat(folder.c_str(), &identity) == 0 && !seen_.emplace(identity.st_dev, identity.st_ino).second) {
      ++found_.folders_again;
      return;
    }
    // Sorted, so that it does not depend on the file system which of two ways to a folder counts.
    std::vector<fs::path> entries;
    for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
      entries.push_back(entry->path());
    if (error) throw Error(ExitCode::bad_input, format("cannot list %s: %s", folder.c_str(), error.message().c_str()));
    std::sort(entries.begin(), entries.end(), [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
    // Links last: a folder counts where it really is.
    std::stable_partition(entries.begin(), entries.end(), [](const fs::path& path) { return !fs::is_symlink(path); });
    for (const auto& path : entries) take(path);
  }

 private:
  void take(const fs::path& path) {
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    const bool wanted = std::find(extensions_.begin(), extensions_.end(), path.extension().string()) != extensions_.end();
    if (fs::is_directory(status)) {
      if (wanted) found_.folders.push_back(path);
      visit(path);
    } else if (wanted) {
      (fs::is_regular_file(status) ? found_.files : found_.irregular).push_back(path);
    } else if (!fs::exists(status)) {
      ++found_.dead_links;
    } else if (path.filename() != companion_) {
      ++found_.others[path.has_extension() ? path.extension().string() : "none"];
    }
  }

  const std::vector<std::string>& extensions_;
  const std::string& companion_;
  FolderFiles& found_;
  std::set<std::pair<dev_t, ino_t>> seen_;
};

std::string counted(int64_t count, const char* one, const char* many) {
  return format("%lld %s", static_cast<long long>(count), count == 1 ? one : many);
}

}  // namespace

std::string FolderFiles::left_out() const {
  std::vector<std::string> parts, kinds;
  int64_t count = 0;
  for (const auto& [extension, files_of_it] : others) {
    count += files_of_it;
    kinds.push_back(format("%s %lld", printable(extension).c_str(), static_cast<long long>(files_of_it)));
  }
  constexpr size_t max_kinds = 8;
  if (kinds.size() > max_kinds) {
    kinds.resize(max_kinds);
    kinds.push_back("...");
  }
  if (count > 0) parts.push_back(counted(count, "file of another kind", "files of other kinds") + " (" + join(kinds, ", ") + ")");
  if (folders_again > 0)
    parts.push_back(counted(folders_again, "link to a folder that is read already", "links to folders that are read already"));
  for (const auto& path : irregular) {
    const std::string kind = irregular_kind(path);
    parts.push_back(printable(path.string()) + (kind.empty() ? "" : " (" + kind + ")"));
  }
  if (dead_links > 0) parts.push_back(counted(dead_links, "link to nothing", "links to nothing"));
  return join(parts, ", ");
}

FolderFiles files_below(const fs::path& folder, const std::vector<std::string>& extensions, const std::string& companion) {
  FolderFiles found;
  Walk(extensions, companion, found).visit(folder);
  std::sort(found.files.begin(), found.files.end(), [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  return found;
}

std::string remove_repeated(std::vector<fs::path>& files) {
  std::map<std::pair<dev_t, ino_t>, fs::path> seen;
  std::vector<std::string> repeated;
  std::erase_if(files, [&](const fs::path& file) {
    struct stat identity {};
    if (::stat(file.c_str(), &identity) != 0) return false;
    const auto [first, is_new] = seen.try_emplace({identity.st_dev, identity.st_ino}, file);
    if (!is_new)
      repeated.push_back(printable(file.string()) + (file == first->second ? "" : " is " + printable(first->second.string())));
    return !is_new;
  });
  if (repeated.empty()) return "";
  const auto count = static_cast<int64_t>(repeated.size());
  constexpr size_t max_named = 3;
  if (repeated.size() > max_named) {
    repeated.resize(max_named);
    repeated.push_back("...");
  }
  return counted(count, "file is", "files are") + " given again, and read only once: " + join(repeated, ", ");
}

}  // namespace pgolf
