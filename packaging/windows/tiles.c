/* Only for running here: Linux gives a process AMX when it asks for it, and onnxruntime for Windows
   knows nothing of asking. Loaded into Wine's processes by LD_PRELOAD; see arch/x86/xstate.rst of
   the kernel's documentation. Never shipped. */
#include <sys/syscall.h>
#include <unistd.h>

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18

__attribute__((constructor)) static void ask(void)
{
    syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA);
}
