#include "pgolf/prepare/created_folder.h"

#include "pgolf/base/error.h"
#include "pgolf/base/files.h"
#include "pgolf/base/format.h"

namespace pgolf {
namespace fs = std::filesystem;

CreatedFolder::CreatedFolder(const fs::path& folder) {
  std::error_code error;
  for (fs::path path = folder; !path.empty() && !fs::exists(path, error); path = path.parent_path()) created_.push_back(path);
  try {
    create_folders(folder);
  } catch (const Error&) {
    remove_empty();
    throw;
  }
}

CreatedFolder::~CreatedFolder() {
  remove_empty();
}

void CreatedFolder::remove_empty() const {
  std::error_code not_empty;
  for (const auto& path : created_) fs::remove(path, not_empty);
}

}  // namespace pgolf
