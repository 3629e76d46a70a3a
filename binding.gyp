# node-gyp build; native/CMakeLists.txt is its twin. Both read the same lists of sources.
{
  'target_defaults': {
    'include_dirs': ['native/src', 'native/emulator'],
    'cflags_cc!': ['-fno-exceptions', '-fno-rtti', '-std=gnu++17'],
    'cflags_cc': ['-std=c++20', '-fexceptions', '-fvisibility=hidden', '-Wall', '-Wextra', '-Wno-restrict', '-O3'],
    'ldflags': ['-Wl,-z,now', '-Wl,-z,nodelete', '-pthread'],
    'libraries': ['-ldl'],
  },
  'targets': [
    {
      'target_name': 'weightcast',
      'sources': ["<!@(cat native/core_sources.txt native/binding_sources.txt | sed 's|^|native/|')"],
      'include_dirs': ["<!(node -p \"require('node-addon-api').include_dir\")"],
    },
    {
      'target_name': 'emulated_cuda',
      'type': 'shared_library',
      'product_dir': '<(module_root_dir)/build/emulator',
      'product_prefix': '',
      'product_name': 'libcuda',
      'product_extension': 'so.1',
      'sources': ["<!@(sed 's|^|native/|' native/emulator/cuda_sources.txt)"],
      'ldflags': ['-Wl,-soname,libcuda.so.1'],
    },
    {
      'target_name': 'emulated_nccl',
      'type': 'shared_library',
      'product_dir': '<(module_root_dir)/build/emulator',
      'product_prefix': '',
      'product_name': 'libnccl',
      'product_extension': 'so.2',
      'sources': ["<!@(sed 's|^|native/|' native/emulator/nccl_sources.txt)"],
      'ldflags': ['-Wl,-soname,libnccl.so.2'],
    },
  ],
}
