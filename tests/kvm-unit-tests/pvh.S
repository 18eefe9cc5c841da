/*
 * A PVH entry for the programs of kvm-unit-tests, which want to be started as multiboot programs: makes a multiboot structure of the start
 * structure that EBX points to, and goes on at their own entry. Sources: Xen's public/arch-x86/hvm/start_info.h; Multiboot Specification 0.6.96.
 */
	.code32
	.section .init, "ax"
	.globl pvh_start
pvh_start:
	mov	$multiboot, %edi
	movl	$0x9, (%edi)		/* flags: memory, modules */
	movl	$640, 4(%edi)		/* KiB below 1 MiB */
	movl	$0x3FC00, 8(%edi)	/* KiB from there on: to 256 MiB */
	mov	24(%ebx), %eax		/* the command line */
	mov	%eax, 16(%edi)
	mov	12(%ebx), %eax		/* modules: none, or the first of them */
	mov	%eax, 20(%edi)
	movl	$module, 24(%edi)
	test	%eax, %eax
	jz	1f
	mov	16(%ebx), %edx
	mov	(%edx), %eax
	mov	%eax, module
	add	8(%edx), %eax
	mov	%eax, module + 4
1:	mov	%edi, %ebx
	jmp	start

	.data
	.balign	8
multiboot:
	.skip	128
module:
	.skip	16

	/* XEN_ELFNOTE_PHYS32_ENTRY */
	.section .note.Xen, "a", @note
	.balign	4
	.long	4, 4, 18
	.asciz	"Xen"
	.long	pvh_start

	.section .note.GNU-stack, "", @progbits
