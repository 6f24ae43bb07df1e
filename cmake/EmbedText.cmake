# pgolf_embed_text(TARGET FILE HEADER FUNCTION): adds to TARGET a source file that defines
#   const std::string& pgolf::FUNCTION();
# declared in HEADER: the text of FILE. It stands in a literal, so that compiler caches see when it changes.
include_guard(GLOBAL)

function(pgolf_embed_text target file header function)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  file(READ ${file} text)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/${function}.cpp)
  file(CONFIGURE OUTPUT ${source} @ONLY CONTENT [[
#include "@header@"

const std::string& pgolf::@function@() {
  static const std::string text = R"pgolf_text(@text@)pgolf_text";
  return text;
}
]])
  target_sources(${target} PRIVATE ${source})
endfunction()
