# Read by setup.py's build only (-DCMAKE_PROJECT_INCLUDE), never in a ROS distro.
#
# The PyPI "ros-*" wheels export generator targets with the include directories of the image they were built in, which
# exist nowhere else; CMake refuses imported targets with missing include directories. Drop those.
function(_proxqa_drop_missing_includes)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(directories ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT directories)
      continue()
    endif()
    set(present)
    foreach(directory IN LISTS directories)
      if(directory MATCHES "^\\$<" OR EXISTS "${directory}")
        list(APPEND present "${directory}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${present}")
  endforeach()
endfunction()
cmake_language(DEFER CALL _proxqa_drop_missing_includes)
