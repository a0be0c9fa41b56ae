# cmake -DROOT=folder -P layering.cmake: fails if a source file includes what its layer may not know.
#
# The table is the plan of the house: layers are a DAG, siblings never include each other, third-party headers stay in
# .cc and -inl.h files, include paths are repo-rooted. Each row: a library, its files, the folders or files of the
# project that it may include, the third-party headers that it may include (all: fmt).
cmake_minimum_required(VERSION 3.25)

set(core "formats/core/")
set(quant "quant/")
set(transcode "quant/(plan|presets|recipe|transcode)\\.")
set(formats "formats/")
set(converters "converters/")
set(verify "verify/")
set(tools "tools/")

# First match wins. `transcode` lies in quant/ but above its codecs, which must not know it.
set(libraries core transcode quant formats converters verify tools)
set(files_core "^${core}")
set(files_transcode "^${transcode}")
set(files_quant "^${quant}")
set(files_formats "^${formats}")
set(files_converters "^${converters}")
set(files_verify "^${verify}")
set(files_tools "^${tools}")

set(project_core "^${core}")
set(project_transcode "^(${core}|${quant})")
set(project_quant "^(${core}|${quant})")
set(project_quant_never "^${transcode}")
set(project_formats "^${formats}")
set(project_converters "^(${formats}|${converters})")
set(project_verify "^(${formats}|${quant}|${verify})")
set(project_verify_never "^${transcode}")
set(project_tools "^(${formats}|${quant}|${converters}|${verify}|${tools})")

set(tbb "oneapi/tbb/|tbb/")
set(third_party_core "xxhash\\.h")
set(third_party_transcode "${tbb}")
set(third_party_quant "hwy/")
set(third_party_formats "google/protobuf/|zstd(_errors)?\\.h|libdeflate\\.h|nlohmann/|${tbb}")
set(third_party_converters "md5\\.h")
set(third_party_verify "oneapi/dnnl/|hwy/|${tbb}|pcre2\\.h")
set(third_party_tools "CLI/|nlohmann/|oneapi/dnnl/|hwy/|${tbb}|google/protobuf/|zstd\\.h|libdeflate\\.h|xxhash\\.h|pcre2\\.h")

# The C++ library (no dot in the name), C's headers and the system's.
set(system_headers "^([a-z_0-9]+|(sys|linux)/[a-z_]+\\.h|(unistd|fcntl|sched|signal|dirent|errno|poll|termios|pthread|time|malloc)\\.h)$")

file(GLOB_RECURSE sources RELATIVE ${ROOT}
  ${ROOT}/formats/*.h ${ROOT}/formats/*.cc ${ROOT}/quant/*.h ${ROOT}/quant/*.cc
  ${ROOT}/converters/*.h ${ROOT}/converters/*.cc ${ROOT}/verify/*.h ${ROOT}/verify/*.cc
  ${ROOT}/tools/*.h ${ROOT}/tools/*.cc)
set(n_violations 0)
set(n_includes 0)

macro(violation text)
  message("${source}: ${text}")
  math(EXPR n_violations "${n_violations} + 1")
endmacro()

foreach(source ${sources})
  foreach(candidate ${libraries})
    if(source MATCHES "${files_${candidate}}")
      set(library ${candidate})
      break()
    endif()
  endforeach()
  file(STRINGS ${ROOT}/${source} includes REGEX "^[ \t]*#[ \t]*include")
  foreach(include ${includes})
    math(EXPR n_includes "${n_includes} + 1")
    if(include MATCHES "\"(.*)\"")
      set(header ${CMAKE_MATCH_1})
      if(NOT EXISTS ${ROOT}/${header})
        violation("\"${header}\" is no path from the project's root")
      elseif(NOT header MATCHES "${project_${library}}"
             OR (DEFINED project_${library}_never AND header MATCHES "${project_${library}_never}"))
        violation("quern_${library} must not include \"${header}\"")
      endif()
    elseif(include MATCHES "<(.*)>")
      set(header ${CMAKE_MATCH_1})
      if(header MATCHES "${system_headers}")
        continue()
      elseif(NOT header MATCHES "^(fmt/|${third_party_${library}})")
        violation("quern_${library} must not include <${header}>")
      elseif(NOT source MATCHES "(\\.cc|-inl\\.h)$" AND NOT header MATCHES "_fwd\\.hpp$")
        violation("third-party <${header}> belongs in .cc and -inl.h files")
      endif()
    else()
      violation("cannot read: ${include}")
    endif()
  endforeach()
endforeach()

list(LENGTH sources n_sources)
message("${n_includes} includes in ${n_sources} files, ${n_violations} violations")
if(n_sources EQUAL 0 OR n_violations GREATER 0)
  message(FATAL_ERROR "the layers are broken")
endif()
