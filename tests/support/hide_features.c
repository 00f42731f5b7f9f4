/* Hides instruction sets from the libraries of a process and its children, at full speed; see processors.py.
 *
 * CPUID faults once the kernel is asked to let it (arch_prctl, ARCH_SET_CPUID); the handler executes it and masks the
 * answer (Intel SDM, volume 2, CPUID, leaf 7). HIDE_FEATURES is "vnni", or "avx512" for all of AVX-512 as well.
 *
 * libc, and libraries that are initialised before this one, have seen the true processor. A thread that blocks SIGSEGV
 * dies at a CPUID instruction; onnxruntime's, torch's and Triton's do not block it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define ARCH_SET_CPUID 0x1012
#define BIT(n) (1u << (n))

typedef int (*set_action)(int, const struct sigaction *, struct sigaction *);
static struct sigaction theirs; /* the handler of SIGSEGV that the program has set since */
static int started, hides_avx512;

static void set_action_of_libc(const struct sigaction *action) {
    ((set_action)dlsym(RTLD_NEXT, "sigaction"))(SIGSEGV, action, NULL);
}

static void mask(uint32_t leaf, uint32_t subleaf, uint32_t *eax, uint32_t *ebx, uint32_t *ecx, uint32_t *edx) {
    if (leaf == 7 && subleaf == 0) {
        *ecx &= ~BIT(11);                        /* AVX512_VNNI */
        *edx &= ~(BIT(22) | BIT(24) | BIT(25));  /* AMX: BF16, TILE, INT8 */
        if (hides_avx512) {
            *ebx &= ~(BIT(16) | BIT(17) | BIT(21) | BIT(28) | BIT(30) | BIT(31)); /* F, DQ, IFMA, CD, BW, VL */
            *ecx &= ~(BIT(1) | BIT(6) | BIT(12) | BIT(14));                       /* VBMI, VBMI2, BITALG, VPOPCNTDQ */
            *edx &= ~(BIT(8) | BIT(23));                                          /* VP2INTERSECT, FP16 */
        }
    }
    if (leaf == 7 && subleaf == 1) {
        *eax &= ~(BIT(4) | BIT(21) | BIT(23)); /* AVX_VNNI, AMX_FP16, AVX_IFMA */
        *edx &= ~(BIT(4) | BIT(10) | BIT(19)); /* AVX_VNNI_INT8, AVX_VNNI_INT16, AVX10 */
        if (hides_avx512)
            *eax &= ~BIT(5); /* AVX512_BF16 */
    }
}

static void on_fault(int signal, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)registers[REG_RIP];
    if (info->si_code == SI_KERNEL && code[0] == 0x0f && code[1] == 0xa2) {
        uint32_t leaf = registers[REG_RAX], subleaf = registers[REG_RCX], eax, ebx, ecx, edx;
        syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
        __asm__ volatile("cpuid" : "=a"(eax), "=b"(ebx), "=c"(ecx), "=d"(edx) : "a"(leaf), "c"(subleaf));
        syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
        mask(leaf, subleaf, &eax, &ebx, &ecx, &edx);
        registers[REG_RAX] = eax, registers[REG_RBX] = ebx, registers[REG_RCX] = ecx, registers[REG_RDX] = edx;
        registers[REG_RIP] += 2;
    } else if (theirs.sa_flags & SA_SIGINFO) {
        theirs.sa_sigaction(signal, info, context);
    } else if (theirs.sa_handler != SIG_DFL && theirs.sa_handler != SIG_IGN) {
        theirs.sa_handler(signal);
    } else {
        set_action_of_libc(&(struct sigaction){.sa_handler = SIG_DFL}); /* the fault comes again, and ends the process */
    }
}

int sigaction(int signal, const struct sigaction *action, struct sigaction *old) {
    if (signal != SIGSEGV || !started)
        return ((set_action)dlsym(RTLD_NEXT, "sigaction"))(signal, action, old);
    if (old)
        *old = theirs;
    if (action)
        theirs = *action;
    return 0;
}

/* libc's own signal() would not come by here. */
sighandler_t signal(int number, sighandler_t handler) {
    struct sigaction old, action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    return sigaction(number, &action, &old) ? SIG_ERR : old.sa_handler;
}

__attribute__((constructor)) static void start(void) {
    const char *features = getenv("HIDE_FEATURES");
    if (!features)
        return;
    started = 1;
    hides_avx512 = !strcmp(features, "avx512");
    set_action_of_libc(&(struct sigaction){.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER});
    if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0))
        _exit(126); /* rather than measure the wrong processor */
}
