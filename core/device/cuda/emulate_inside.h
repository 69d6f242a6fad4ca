/* emulate_inside.h: what the two halves of the emulation say to each other. Private to emulate*.cc. */
#ifndef RT_CUDA_EMULATE_INSIDE_H
#define RT_CUDA_EMULATE_INSIDE_H

#include "core/device/cuda/emulate.h"

/* Ends the process with one line that names the kernel or copy at work. */
[[noreturn]] void emu_fault(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* An environment variable, or `otherwise` where it is empty; whether it is `value`. */
const char *emu_setting(const char *name, const char *otherwise);
bool emu_said(const char *name, const char *value);

void emu_run_grid(dim3 grid, dim3 block, size_t shared, const std::function<void()> &kernel);

#endif
