// The page at "/": page.html, which the build puts into the program.
#pragma once

#include <string>

namespace pgolf {

const std::string& page_html();

}  // namespace pgolf
