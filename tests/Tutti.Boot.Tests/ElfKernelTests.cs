using System.Buffers.Binary;
using System.Text;
using Tutti.Cpu;
using static Tutti.Boot.Tests.TestMemory;

namespace Tutti.Boot.Tests;

public class ElfKernelTests
{
    [Fact]
    public void Segments_are_loaded_and_their_rest_is_zero()
    {
        using TestMemory memory = new(64);
        LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = KernelFiles.Vmlinux() });
        Assert.All(memory.Bytes(KernelFiles.PreferredAddress, 0x800), b => Assert.Equal(0xC3, b));
        Assert.All(memory.Bytes(KernelFiles.PreferredAddress + 0x800, 0x1800), b => Assert.Equal(0, b));
        Assert.Equal(Pattern, memory.U8(KernelFiles.PreferredAddress + 0x2000));
    }

    [Fact]
    public void The_processor_is_in_32_bit_mode_without_paging_at_the_note_s_entry()
    {
        using TestMemory memory = new(64);
        ProcessorRegisters r = LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = KernelFiles.Vmlinux() });
        Assert.Equal(KernelFiles.PvhEntry, r.Rip);
        Assert.Equal(1UL, r.Cr0 & 0x8000_0001);
        Assert.Equal(0UL, r.Cr4);
        Assert.Equal(0UL, r.Efer);
        Assert.Equal(2UL, r.Rflags);
        Assert.Equal(0xC09B, r.Segments[1].Attributes);
        Assert.All([0, 2, 3], i => Assert.Equal((0UL, 0xFFFF_FFFFU, 0xC093), (r.Segments[i].Base, r.Segments[i].Limit, r.Segments[i].Attributes)));
        Assert.Equal((0x67U, 0x8B), (r.Tr.Limit, r.Tr.Attributes));
    }

    [Fact]
    public void The_start_info_names_command_line_initrd_memory_map_and_rsdp()
    {
        using TestMemory memory = new(64, 64);
        byte[] initrd = Encoding.ASCII.GetBytes("070701 or so");
        ProcessorRegisters r = LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = KernelFiles.Vmlinux(), Initrd = initrd, CommandLine = "quiet" });
        ulong info = r.Gpr[3];
        Assert.Equal(0x336E_C578U, memory.U32(info));
        Assert.Equal(1U, memory.U32(info + 4));
        Assert.Equal(1U, memory.U32(info + 12));
        ulong module = memory.U64(info + 16);
        Assert.Equal(initrd, memory.Bytes(memory.U64(module), (int)memory.U64(module + 8)));
        Assert.Equal("quiet\0"u8.ToArray(), memory.Bytes(memory.U64(info + 24), 6));
        Assert.Equal("RSD PTR "u8.ToArray(), memory.Bytes(memory.U64(info + 32), 8));
        ulong map = memory.U64(info + 40);
        ulong entries = memory.U32(info + 48);
        ulong usable = 0;
        for (ulong i = 0; i < entries; i++)
        {
            usable += memory.U32(map + (i * 24) + 16) == 1 && memory.U64(map + (i * 24)) >= MiB ? memory.U64(map + (i * 24) + 8) : 0;
            Assert.Equal(0U, memory.U32(map + (i * 24) + 20));
        }

        Assert.Equal(127 * MiB, usable);
    }

    [Fact]
    public void Without_an_initrd_there_is_no_module()
    {
        using TestMemory memory = new(64);
        ProcessorRegisters r = LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = KernelFiles.Vmlinux() });
        Assert.Equal(0U, memory.U32(r.Gpr[3] + 12));
        Assert.Equal(0UL, memory.U64(r.Gpr[3] + 16));
    }

    [Fact]
    public void Hostile_program_headers_are_refused()
    {
        ulong[] values = [0x1001, 0xFFFF_FFFF, 0x1_0000_0000, 0x7FFF_FFFF_FFFF_FFFF, ulong.MaxValue];
        using TestMemory memory = new(32);
        foreach (int field in (int[])[8, 24, 32, 40])
        {
            foreach (ulong value in values)
            {
                byte[] kernel = KernelFiles.Vmlinux();
                BinaryPrimitives.WriteUInt64LittleEndian(kernel.AsSpan(64 + field), value);
                bool harmless = (field == 40 && value == 0x1001) || (field == 8 && value == 0x1001);
                if (!harmless)
                {
                    Assert.Throws<BootException>(() => LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = kernel }));
                }
            }
        }
    }

    [Theory]
    [InlineData(0x414 + 8, "without a PVH entry")]
    [InlineData(0x414 + 12, "without a PVH entry")]
    [InlineData(56, "without program headers")]
    [InlineData(54, "impossible size")]
    [InlineData(0x414 + 19, "outside what its ELF file loads")]
    public void A_file_that_is_no_pvh_kernel_is_refused(int offset, string message)
    {
        using TestMemory memory = new(32);
        byte[] kernel = KernelFiles.Vmlinux();
        kernel[offset] = offset == 0x414 + 19 ? (byte)0x10 : (byte)0;
        BootException error = Assert.Throws<BootException>(() => LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = kernel }));
        Assert.Contains(message, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_segment_in_low_memory_is_refused_because_our_own_tables_lie_there()
    {
        using TestMemory memory = new(32);
        byte[] kernel = KernelFiles.Vmlinux();
        BinaryPrimitives.WriteUInt64LittleEndian(kernel.AsSpan(64 + 24), 0x7000);
        BinaryPrimitives.WriteUInt32LittleEndian(kernel.AsSpan(0x414 + 16), 0x7000);
        Assert.Throws<BootException>(() => LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = kernel }));
    }

    [Fact]
    public void Too_little_memory_names_the_size_that_is_needed()
    {
        using TestMemory memory = new(16);
        BootException error = Assert.Throws<BootException>(() => LinuxLoader.Load(memory.Guest, new BootOptions { Kernel = KernelFiles.Vmlinux() }));
        Assert.Contains("--memory 17M", error.Message, StringComparison.Ordinal);
    }
}
