using Tutti.Guests;

namespace Tutti.Guest.Tests;

/// <summary>
/// C++ exceptions as a stock compiler and its runtime make them. libgcc's unwinder reads the shadow stack pointer (RDSSPQ), which a
/// processor without shadow stacks has as a NOP, and asks what comes of it.
/// </summary>
[Collection("guests")]
public class UnwindTests
{
    private static readonly Lazy<string?> s_missing = new(() => HostCompiler.FindMissing("g++", "g++ and libc6-dev"));

    /// <summary>RDSSPQ RAX, without its register: F3 REX.W 0F 1E /1.</summary>
    private static ReadOnlySpan<byte> ReadShadowStackPointer => [0xF3, 0x48, 0x0F, 0x1E];

    [UnwindFact]
    public async Task Exceptions_of_a_program_built_by_the_stock_compiler_are_caught()
    {
        string folder = Directory.CreateTempSubdirectory("tutti-unwind-").FullName;
        try
        {
            string program = Path.Combine(folder, "throw");
            string errors = HostCompiler.Compile("g++", ["-O1", "-static", "-o", program, Path.Combine(AppContext.BaseDirectory, "Exceptions", "throw.cpp")]);
            Assert.True(errors.Length == 0, errors);
            byte[] bytes = File.ReadAllBytes(program);
            Assert.True(bytes.AsSpan().IndexOf(ReadShadowStackPointer) >= 0, "this compiler's runtime does not ask for a shadow stack: the program says nothing of RDSSPQ");

            GuestImage image = await new ImageCatalog().GetAsync(ImageCatalog.DefaultImage);
            string initrd = Path.Combine(folder, "initrd");
            HostCompiler.AddToInitrd(image.InitrdPath, initrd, "bin/throw", bytes);
            using var guest = new GuestSession("--engine", "software", "--initrd", initrd);
            guest.ExpectShell();
            Assert.EndsWith("CAUGHT 1000", guest.Run("throw").Trim(), StringComparison.Ordinal);
            guest.Send("poweroff\n");
            Assert.Equal(0, guest.WaitForExit());
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>A test that builds a C++ program and boots the image `debian`: skipped, with its reason, where one of them cannot be had.</summary>
    private sealed class UnwindFactAttribute : DebianFactAttribute
    {
        public UnwindFactAttribute() => Skip ??= s_missing.Value;
    }
}
