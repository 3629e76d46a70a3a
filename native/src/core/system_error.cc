#include "core/system_error.h"

#include <cerrno>
#include <system_error>

namespace weightcast {
namespace {

/// Those that calls on files give; glibc names them from 2.32 on only.
std::string errno_name(int number) {
  static constexpr struct {
    int number;
    const char* name;
  } kNames[] = {
      {EACCES, "EACCES"}, {EAGAIN, "EAGAIN"}, {EBADF, "EBADF"},   {EBUSY, "EBUSY"},
      {EDQUOT, "EDQUOT"}, {EEXIST, "EEXIST"}, {EFBIG, "EFBIG"},   {EINVAL, "EINVAL"},
      {EIO, "EIO"},       {EISDIR, "EISDIR"}, {ELOOP, "ELOOP"},   {EMFILE, "EMFILE"},
      {ENFILE, "ENFILE"}, {ENODEV, "ENODEV"}, {ENOENT, "ENOENT"}, {ENOMEM, "ENOMEM"},
      {ENOSPC, "ENOSPC"}, {ENOSYS, "ENOSYS"}, {ENXIO, "ENXIO"},   {EPERM, "EPERM"},
      {EROFS, "EROFS"},   {ESTALE, "ESTALE"}, {ETIMEDOUT, "ETIMEDOUT"}, {ETXTBSY, "ETXTBSY"},
      {ENAMETOOLONG, "ENAMETOOLONG"}, {ENOTDIR, "ENOTDIR"}, {EOPNOTSUPP, "EOPNOTSUPP"},
  };
  for (const auto& known : kNames) {
    if (known.number == number) return known.name;
  }
  return "errno " + std::to_string(number);
}

}  // namespace

Error file_error(const char* error_code, const std::string& what, const char* call, const std::string& path,
                 int number) {
  const auto name = errno_name(number);
  const auto text = std::generic_category().message(number);
  return Error(error_code, "cannot " + what + " " + path + ": " + text + " (" + name + ")",
               {{"path", path}, {"call", std::string(call)}, {"errno", double(number)}, {"errnoName", name}});
}

}  // namespace weightcast
