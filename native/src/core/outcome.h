// How an operation on another thread ends: a value or an Error, given once to a callback.
#pragma once

#include <functional>
#include <utility>
#include <variant>

#include "core/error.h"

namespace weightcast {

struct Unit {};

template <class T>
using Outcome = std::variant<T, Error>;

template <class T>
using Done = std::function<void(Outcome<T>)>;

/// Runs `work`; whatever it throws becomes the outcome.
template <class T, class Work>
Outcome<T> capture(Work&& work) {
  try {
    return Outcome<T>(std::in_place_index<0>, std::forward<Work>(work)());
  } catch (const Error& error) {
    return Outcome<T>(std::in_place_index<1>, error);
  } catch (const std::exception& error) {
    return Outcome<T>(std::in_place_index<1>, Error(code::kNcclFailed, error.what()));
  }
}

}  // namespace weightcast
