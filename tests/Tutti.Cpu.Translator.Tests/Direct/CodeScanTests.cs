using System.Runtime.InteropServices;

namespace Tutti.Cpu.Translator.Tests;

/// <summary>Instructions that tell of the host are found, and their bytes inside others are not taken for them.</summary>
public sealed unsafe class CodeScanTests
{
    [Theory]
    [InlineData(new byte[] { 0x0F, 0xA2 })]
    [InlineData(new byte[] { 0x0F, 0x01, 0xD0 })]
    [InlineData(new byte[] { 0x0F, 0x01, 0xEF })]
    [InlineData(new byte[] { 0x0F, 0x01, 0x00 })]
    [InlineData(new byte[] { 0xF3, 0x0F, 0xC7, 0xF8 })]
    [InlineData(new byte[] { 0x0F, 0x03, 0xC1 })]
    public void They_are_found(byte[] instruction)
    {
        Assert.Equal([1000], Find(instruction, 1000));
        Assert.Single(Find(instruction, 3));
    }

    [Theory]
    [InlineData(new byte[] { 0xB8, 0x0F, 0xA2, 0x00, 0x00 })] // MOV EAX, 0xA20F
    [InlineData(new byte[] { 0x48, 0x8D, 0x05, 0x0F, 0x01, 0xD0, 0x00 })] // LEA RAX, [RIP + 0xD0010F]
    [InlineData(new byte[] { 0x0F, 0xAF, 0xC1 })] // IMUL EAX, ECX
    [InlineData(new byte[] { 0x0F, 0x05 })] // SYSCALL
    public void Others_are_not(byte[] instruction) => Assert.Empty(Find(instruction, 1000));

    [Fact]
    public void More_than_there_is_room_for_are_told()
    {
        byte* page = (byte*)NativeMemory.AlignedAlloc(4096, 4096);
        new Span<byte>(page, 4096).Fill(0x90);
        for (int i = 0; i < 5; i++)
        {
            page[500 + (100 * i)] = 0x0F;
            page[501 + (100 * i)] = 0xA2;
        }

        Span<int> places = stackalloc int[4];
        Assert.Equal(-1, new CodeScan(false).Find(page, places));
        NativeMemory.AlignedFree(page);
    }

    private static int[] Find(byte[] instruction, int place)
    {
        byte* page = (byte*)NativeMemory.AlignedAlloc(4096, 4096);
        var bytes = new Span<byte>(page, 4096);
        bytes.Fill(0x90);
        instruction.CopyTo(bytes[place..]);
        Span<int> places = stackalloc int[4];
        int count = new CodeScan(false).Find(page, places);
        NativeMemory.AlignedFree(page);
        return places[..count].ToArray();
    }
}
