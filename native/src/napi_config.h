// The only file that includes <napi.h>: every define that changes its behaviour is here, for both builds.
#pragma once

#define NAPI_VERSION 9
#define NODE_ADDON_API_CPP_EXCEPTIONS
#define NODE_ADDON_API_CPP_EXCEPTIONS_ALL        // std::exception becomes a JS Error
#define NODE_ADDON_API_DISABLE_DEPRECATED
#define NODE_ADDON_API_REQUIRE_BASIC_FINALIZERS  // finalizers cannot touch JS
#define NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS  // a Worker that ends must not abort the process
#include <napi.h>
