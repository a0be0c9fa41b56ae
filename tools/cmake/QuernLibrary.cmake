# quern_library(NAME SOURCES... [PUBLIC libs] [PRIVATE libs]): a static library of one room, with the
# project's warnings. Third-party packages are PRIVATE: their headers stay in .cc files.
function(quern_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC quern_options ${ARG_PUBLIC} PRIVATE ${ARG_PRIVATE})
endfunction()

# quern_test(NAME SOURCES... LIBS...): a GoogleTest program whose cases become ctests named NAME/Suite.Case.
# A case that calls GTEST_SKIP counts as skipped in ctest's summary.
function(quern_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE quern_options ${ARG_LIBS} GTest::gtest GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE
    QUERN_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data" QUERN_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  gtest_discover_tests(${name} TEST_PREFIX "${name}/" DISCOVERY_TIMEOUT 120
    PROPERTIES TIMEOUT 600)
endfunction()
