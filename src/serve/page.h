// The page at "/": page.html, which the build embeds in the program.
#pragma once

#include <string>

namespace pgolf {

const std::string& page_html();

}  // namespace pgolf
