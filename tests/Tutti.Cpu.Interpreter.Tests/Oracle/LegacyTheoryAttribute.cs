namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>A theory that runs 32-bit code on the host's own processor: left out, with the reason, where the kernel has no such code segment.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class LegacyTheoryAttribute : TheoryAttribute
{
    /// <summary>lar eax, edi; setz al; movzx eax, al; ret.</summary>
    private static readonly byte[] HasSelector = [0x0F, 0x02, 0xC7, 0x0F, 0x94, 0xC0, 0x0F, 0xB6, 0xC0, 0xC3];

    private static readonly Lazy<string?> Missing = new(() => Has(Trampoline.LegacyCode)
        ? null
        : "the host's kernel has no 32-bit code segment (it was built or begun without IA32 emulation)");

    public LegacyTheoryAttribute() => Skip = Missing.Value;

    private static unsafe bool Has(ushort selector)
    {
        nint page = HostCalls.mmap(0, ArenaLayout.PageSize, HostCalls.ProtRead | HostCalls.ProtWrite, HostCalls.MapPrivate | HostCalls.MapAnonymous, -1, 0);
        if (page == -1)
        {
            throw new InvalidOperationException("No page for a probe.");
        }

        HasSelector.CopyTo(new Span<byte>((void*)page, ArenaLayout.PageSize));
        HostCalls.mprotect(page, ArenaLayout.PageSize, HostCalls.ProtRead | HostCalls.ProtExec);
        bool has = ((delegate* unmanaged<int, int>)page)(selector) != 0;
        HostCalls.munmap(page, ArenaLayout.PageSize);
        return has;
    }
}
