# cmake -DSOURCE=operation.cu -DOUTPUT=operation.cc -P: a source with the kernels of a .cu and their
# Registrations. Kernels are what follows TACO4J_KERNEL, __launch_bounds__ maybe between.
file(READ ${SOURCE} text)
# A list in CMake ends at semicolons and keeps brackets together.
string(REGEX REPLACE "//[^\n]*" "" text "${text}")
string(REPLACE ";" "{" text "${text}")
string(REPLACE "[" "(" text "${text}")
string(REPLACE "]" ")" text "${text}")
string(REGEX MATCHALL "TACO4J_KERNEL[^{]*{" declarations "${text}")
get_filename_component(file ${SOURCE} NAME)
set(code "#include \"${file}\"\n#include \"fake_kernels.h\"\n\nnamespace {\n")
foreach(declaration IN LISTS declarations)
  if(declaration MATCHES "(taco4j_[a-z0-9_]+)[ \n]*\\(")
    set(name ${CMAKE_MATCH_1})
    string(APPEND code "const taco4j_fake::Registration register_${name}(\"${name}\", ${name});\n")
  endif()
endforeach()
string(APPEND code "}  // namespace\n")
file(WRITE ${OUTPUT} "${code}")
