// How an operation on another thread ends: a value or an Error, given once to a callback.
#pragma once

#include <functional>
#include <new>
#include <string>
#include <system_error>
#include <utility>
#include <variant>

#include "core/error.h"

namespace weightcast {

struct Unit {};

template <class T>
using Outcome = std::variant<T, Error>;

template <class T>
using Done = std::function<void(Outcome<T>)>;

/// What is being handled, as an Error; for the end of a thread, where nothing may escape.
inline Error current_error() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error(code::kCudaOutOfMemory, "the host has no memory left");
  } catch (const std::system_error& error) {
    return Error(code::kThreadRefused, std::string("cannot start a thread: ") + error.what());
  } catch (const std::exception& error) {
    return Error(code::kArgument, std::string("unexpected: ") + error.what());
  }
}

/// Runs `work`; whatever it throws becomes the outcome.
template <class T, class Work>
Outcome<T> capture(Work&& work) {
  try {
    return Outcome<T>(std::in_place_index<0>, std::forward<Work>(work)());
  } catch (...) {
    return Outcome<T>(std::in_place_index<1>, current_error());
  }
}

}  // namespace weightcast
